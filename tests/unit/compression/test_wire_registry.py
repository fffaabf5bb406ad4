"""The registry of wire formats, and a format from a package outside of the tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from extension import install

from eai_notebook.compression.wire_registry import (
    check_wire,
    format_names,
    wire_format,
    wire_names,
)
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]

TRAINING = """
import keras, numpy as np
import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.compression.wire_registry import wire_names
collective.form()
keras.utils.set_random_seed(0)
x = np.random.default_rng(eai.rank()).normal(size=(512, 400)).astype("f4")
y = x @ np.linspace(-1, 1, 400, dtype="f4")[:, None]
model = keras.Sequential([keras.Input((400,)), keras.layers.Dense(30), keras.layers.Dense(1)])
optimizer = eai.DistributedOptimizer(keras.optimizers.SGD(1e-3), wire="sign")
model.compile(optimizer, "mse")
losses = eai.fit(model, (x, y), batch_size=64, epochs=3, verbose=0).history["loss"]
weights = [float(np.abs(w).sum()) for w in model.get_weights()]
report({"names": list(wire_names()), "losses": losses, "weights": weights})
"""


def test_the_own_formats_come_first_and_auto_last() -> None:
    names = wire_names()
    assert names[:4] == ("fp32", "fp16", "bf16", "int8")
    assert names[-1] == "auto"
    assert all(wire_format(name).name == name for name in format_names())


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EaiError, match="int8") as raised:
        check_wire("fp12")
    assert raised.value.code == "wire-format"


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8"])
def test_narrow_formats_cost_less_than_fp32(name: str) -> None:
    assert wire_format(name).bytes_for(1 << 20) <= wire_format("fp32").bytes_for(1 << 20) / 1.9


@pytest.mark.ranks
@pytest.mark.slow
def test_a_format_from_another_package_trains(
    run_ranks: RunRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = install("sign_wire", tmp_path / "installed")
    monkeypatch.setenv("EAI_TEST_PATH", str(target))
    first, second = run_ranks(TRAINING)
    assert "sign" in first["names"]
    assert first["weights"] == pytest.approx(second["weights"], rel=1e-5)
    assert first["losses"][-1] < first["losses"][0]
