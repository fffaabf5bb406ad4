"""Programs of other people on two ranks: steps, optimizers, shapes and orders of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paths import RANKS

RunRanks = Callable[..., list[Any]]

pytestmark = pytest.mark.ranks


def read(name: str) -> str:
    return (RANKS / f"{name}.py").read_text()


ALL = ("eai.fit", "callbacks", "model.fit")
MODELS = ("no_call", "net", "gan", "series", "pictures")
SOME = {
    "no_call": ("callbacks",),
    "net": ("model.fit",),
    "gan": ("eai.fit", "callbacks"),
    "series": ("model.fit",),
    "pictures": ("eai.fit",),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [SOME, pytest.param(dict.fromkeys(MODELS, ALL), marks=pytest.mark.drill)],
    ids=["some", "all"],
)
def test_what_trains_in_plain_keras_trains_alike_on_all_ranks(
    run_ranks: RunRanks, how: dict[str, tuple[str, ...]]
) -> None:
    first, second = run_ranks(f"HOW = {how!r}\n{read('own_programs')}", n=2)
    assert len(first["weights"]) == 1 + sum(map(len, how.values()))
    for name, weights in first["weights"].items():
        assert weights, name
        assert second["weights"][name] == weights, name
    assert "exchanges no gradients" in first["refused"]
    assert second["refused"] == first["refused"]


@pytest.mark.slow
def test_losses_metrics_and_states_come_to_what_they_are_in_plain_keras(
    run_ranks: RunRanks,
) -> None:
    first, second = run_ranks(read("as_alone"), n=2)
    one, again = first.pop("deterministic")
    assert one == again == second["deterministic"][0]
    said, its = first.pop("said"), second.pop("said")
    assert said.pop("alike") == ""
    assert "compute class_weight from all rows" in said.pop("class_weight")
    assert its["alike"] == its["class_weight"] == "said by rank 0"
    for name, words in said.items():
        assert f"rank 1 trains with another `{name}`" in words, name
        assert its[name] == words
    assert second["loop"] == first["loop"]
    assert first.pop("loop")[1:] == [True, True]
    for name, (alone, together) in first.items():
        assert second[name][1] == together, name
        assert together["history"].keys() == alone["history"].keys(), name
        for key, values in alone["history"].items():
            assert together["history"][key] == pytest.approx(values, rel=1e-3, abs=1e-6), (
                name,
                key,
            )
        for ours, theirs in zip(together["weights"], alone["weights"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_values_of_a_step_of_ones_own_are_averaged_as_they_are(run_ranks: RunRanks) -> None:
    reports = run_ranks(read("own_values"), n=2)
    mean = (2.0**2 + 1.0**2) / 2  # of losses that are 4 on rank 0 and 1 on rank 1
    for report in reports:
        for name, history in report["found"].items():
            more, _, validated = name.split()
            keys = ["loss", "twice"] if more == "True" else ["loss"]
            expected = {key: mean * (1 + (key == "twice")) for key in keys}
            if validated == "validated":
                expected |= {f"val_{key}": value for key, value in expected.items()}
            # A loss that stays what it is ends after the second epoch.
            assert history == {key: [value] * 2 for key, value in expected.items()}, name
        assert {logs["loss"] for logs in report["seen"]} == {mean}


@pytest.mark.slow
def test_all_ranks_skip_a_step_that_overflows_on_one(run_ranks: RunRanks) -> None:
    first, second = run_ranks(read("mixed_float16"), n=2)
    assert second == first
    plain = {how: report for how, report in first.items() if how != "accumulated"}
    for how, report in plain.items():
        assert 0 < report["updates"] < 12, how  # some were skipped, on all ranks
        assert report["updates"] == first["eai.fit"]["updates"], how
        for ours, theirs in zip(report["weights"], first["eai.fit"]["weights"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_gradients_meet_by_variable_or_not_at_all(run_ranks: RunRanks) -> None:
    first, second = run_ranks(read("any_order"), n=2)
    for report in (first, second):
        for how in ("compiled", "eager", "by name"):
            assert report[how] == [1.0, 100.0], how
        assert report["shared"] == [97.0, 98.0]  # rank 0's
        assert report["applied"] == pytest.approx([-2.9, -290.0])
        assert report["auto"] == [0.0, 1.0, 2.0, 3.0]
        assert report["named again"] == [1.5] * 4
    for kind, words in (("lacking", "`left"), ("shape", "`wide"), ("number", "3 gradients")):
        assert words in first[kind], kind
        assert "rank 1" in first[kind], kind
        assert second[kind] == first[kind]
