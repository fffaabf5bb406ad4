"""The choice of the collective backend, training without Horovod, and a backend from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from extension import install
from paths import RANKS

from eai_notebook.collective import backend_registry
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]
TRAINING = (RANKS / "train_by_backend.py").read_text()
WITHOUT_HOROVOD = """
import sys
from importlib.machinery import PathFinder

class WithoutHorovod(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] == "horovod"
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutHorovod
for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
    del sys.modules[name]
"""


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EaiError, match="mpi4py") as raised:
        backend_registry.backend_type("smoke_signals")
    assert raised.value.code == "collective-backend"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["found horovod", "found horovod"], "horovod"),
        (["found horovod", "found mpi4py"], "mpi4py"),
        (["named counting", "named counting"], "counting"),
        (["named mpi4py", "found horovod"], "collective-backends-differ"),
        (["named mpi4py", "named horovod"], "collective-backends-differ"),
        (["found horovod", "failed"], "collective-backend"),
    ],
)
def test_all_ranks_come_to_the_same_choice(entries: list[str], expected: str) -> None:
    try:
        chosen = backend_registry._decide(entries)
    except EaiError as error:
        chosen = error.code
    assert chosen == expected


def test_ranks_get_every_backends_settings() -> None:
    assert backend_registry.rank_settings()["HOROVOD_STALL_CHECK_TIME_SECONDS"] == "10"
    assert {"HOROVOD_FUSION_THRESHOLD", "EAI_COLLECTIVE"} <= backend_registry.forwarded_names()


def test_a_group_without_horovod_is_said_to_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_registry.expected_slowness(2) is None
    monkeypatch.setattr(backend_registry, "find_spec", lambda _: None)
    assert "install-horovod" in str(backend_registry.expected_slowness(2))
    assert backend_registry.expected_slowness(1) is None
    monkeypatch.setenv("EAI_COLLECTIVE", "mpi4py")  # the user knows
    assert backend_registry.expected_slowness(2) is None


@pytest.mark.ranks
@pytest.mark.slow
def test_a_machine_without_horovod_trains_to_equal_weights_and_says_that_it_is_slower(
    run_ranks: RunRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = run_ranks(TRAINING)
    plain = run_ranks(WITHOUT_HOROVOD + TRAINING)
    target = install("counting_collective", tmp_path / "installed")
    monkeypatch.setenv("EAI_TEST_PATH", str(target))
    monkeypatch.setenv("EAI_COLLECTIVE", "counting")
    counted = run_ranks(TRAINING)
    assert [reports[0]["backend"] for reports in (usual, plain, counted)] == [
        "horovod",
        "mpi4py",
        "counting",
    ]
    assert "install-horovod" in plain[0]["notice"]
    assert plain[1]["notice"] + usual[0]["notice"] == ""  # one notice
    for reports in (plain, counted):
        for one, other in zip(usual, reports, strict=True):
            for ours, theirs in zip(one["weights"], other["weights"], strict=True):
                np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-7)
    for report in counted:
        assert report["calls"]["form"] == 1
        assert report["calls"]["allreduce"] > 0
        assert report["calls"]["alltoall"] > 0
