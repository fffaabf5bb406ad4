"""Ranks differ where they should (dropout masks), and nowhere else; exchanges that do not happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from expected_errors import raises_code
from paths import RANKS

from eai_notebook import Session, io
from eai_notebook.errors import EaiError
from eai_notebook.io.pipeline.open_batches import check_options
from eai_notebook.session.observer import Watcher
from eai_notebook.train import lone_fits

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]
MODEL = """
import keras, numpy as np, eai_notebook as eai
def make(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model
x, y = np.ones((8, 2)), np.ones((8, 1))
"""


def test_masks_differ_weights_do_not_and_what_is_not_exchanged_is_named(
    run_ranks: RunRanks,
) -> None:
    first, second = run_ranks((RANKS / "same_state.py").read_text(), 2, timeout=300)
    assert first["initial"] == second["initial"]
    assert first["masks"] != second["masks"]
    assert first["dropout"] != second["dropout"]
    for found in (first, second):
        assert found["batch_norm"] < 1e-5
        assert "exchanges no gradients" in found["own"]
        assert found["steps"] == 1


class Heard(Watcher):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def text(self, stream: str, text: str) -> None:  # noqa: ARG002
        self.texts.append(text)


def test_separate_models_are_named_after_the_cell() -> None:
    heard = Heard()
    with Session(2, watcher=heard) as session:
        session.run(MODEL)
        said = {}
        for name, line in {
            "plain": "make('sgd').fit(x, y, verbose=0)",
            "eai.fit": "eai.fit(make('sgd'), x * (1 + eai.rank()), y, verbose=0)",
            "callbacks": "make(eai.DistributedOptimizer('sgd'))"
            ".fit(x, y, verbose=0, callbacks=eai.callbacks())",
            "one rank": "if eai.rank() == 0:\n    make('sgd').fit(x, y, verbose=0)",
        }.items():
            heard.texts.clear()
            session.run(line)
            said[name] = "".join(heard.texts)
    assert said["plain"].count("2 separate models") == 1
    assert "eai.fit(model, ...)" in said["plain"]
    assert not any("separate models" in said[name] for name in said if name != "plain")


def test_a_fit_that_exchanges_is_noted_by_its_model() -> None:
    one, other = keras.Sequential(), keras.Sequential()
    lone_fits.began(one)
    lone_fits.note_exchange()
    lone_fits.ended()
    lone_fits.note_exchange()
    assert lone_fits.exchanges(one)
    assert not lone_fits.exchanges(other)


def test_padding_without_a_label_has_no_place_for_weights(tmp_path: Path) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"x": np.arange(10), "label": np.arange(10) % 2}), file)
    with pytest.raises(EaiError, match="without a label"):
        io.parquet(str(file), 4, columns=["x"], uneven="pad")
    batches = io.parquet(str(file), 4, label="label", uneven="pad", shuffle=False)
    assert sum(float(weights.numpy().sum()) for _, _, weights in batches) == 10


@pytest.mark.parametrize("size", [2.0, "2", 0, None])
def test_a_batch_size_is_a_whole_number(size: Any) -> None:
    with raises_code("option-invalid", "batch_size"):
        check_options(size)
