"""`Checkpoint`: a training that was interrupted ends as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click_log_files
import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.errors import EaiError, TrainingStopped
from eai_notebook.telemetry import stop_request
from eai_notebook.train import checkpoint_files, stop_agreement

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]


_TRAINING = """
    import contextlib, io, json, os, pathlib, sys
    import keras, numpy as np
    import eai_notebook as eai
    from eai_notebook import collective
    collective.ensure_formed()
    rank, size = eai.rank(), eai.size()
    keras.config.disable_traceback_filtering()

    class Fails(keras.callbacks.Callback):
        "Ends the third epoch in its fourth step."
        epoch = 0
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 2 and batch == 3:
                raise ZeroDivisionError

    def model():
        keras.utils.set_random_seed(rank)
        numbers = keras.Input((13,), name="numbers")
        ids = keras.Input((26,), name="ids", dtype="int32")
        wide = keras.layers.Flatten()(keras.layers.Embedding(20, 2)(ids % 20))
        both = keras.layers.Concatenate()([numbers, wide])
        deep = keras.layers.Dense(8, "relu")(both)
        out = keras.layers.Dense(1, "sigmoid")(keras.layers.Dropout(0.5)(deep))
        made = keras.Model({"numbers": numbers, "ids": ids}, out)
        made.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["auc"])
        return made

    def state(model):
        seeds = [v for v in model.variables if "seed" in v.path]
        values = [*model.weights, *model.optimizer.variables, *seeds]
        return [np.asarray(v).ravel().tolist() for v in values]

    def train(**more):
        made, said = model(), io.StringIO()
        data = eai.io.criteo("train.tsv", 8)
        with contextlib.redirect_stdout(said):
            history = eai.fit(made, data, 4, verbose=0, **more)
        return {"state": state(made), "epochs": history.epoch, "steps": data.steps_per_epoch,
                "said": said.getvalue(), "batches": data.meter.batches}
"""


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.drill), 2])
def test_an_interrupted_training_ends_as_one_that_was_not(
    run_ranks: RunRanks, tmp_path: Path, ranks: int
) -> None:
    click_log_files.write_log(tmp_path / "train.tsv", range(104))
    firsts = run_ranks(
        _TRAINING
        + """
    whole = train()
    try:
        train(checkpoint=eai.Checkpoint("kept", every_steps=2), callbacks=[Fails()])
    except ZeroDivisionError:
        report(whole)
    """,
        ranks,
    )
    steps = firsts[0]["steps"]
    assert steps > 4
    numbers = [2 * steps, 2 * steps + 2]
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert kept[-2:] == [f"checkpoint-{number:010d}.npz" for number in numbers]
    assert len(kept) == 3
    seconds = run_ranks(_TRAINING + '    report(train(checkpoint="kept"))', ranks)
    for rank, (whole, resumed) in enumerate(zip(firsts, seconds, strict=True)):
        assert resumed["said"] == ("resuming from epoch 3, step 2\n" if rank == 0 else "")
        assert resumed["epochs"] == [2, 3]
        assert resumed["state"] == whole["state"]
        assert whole["batches"] == 4 * steps
        assert resumed["batches"] == 2 * steps - 2  # nothing was read that had been trained on


def test_other_rows_than_before_begin_the_epoch_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def model() -> keras.Model:
        numbers = keras.Input((13,), name="numbers")
        ids = keras.Input((26,), name="ids", dtype="int32")
        made = keras.Model({"numbers": numbers, "ids": ids}, keras.layers.Dense(1)(numbers))
        made.compile("sgd", "mse")
        return made

    click_log_files.write_log(tmp_path / "train.tsv", range(64))
    checkpoint = eai.Checkpoint(tmp_path / "kept", every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        eai.fit(
            model(), eai.io.criteo(tmp_path / "train.tsv", 8), 2, verbose=0,
            checkpoint=checkpoint, callbacks=[Stops()],
        )  # fmt: skip
    for seed, words in ((1, "the data cannot go on within an epoch"), (0, "from epoch 1, step 2")):
        capsys.readouterr()
        data = eai.io.criteo(tmp_path / "train.tsv", 8, seed=seed)
        again = model()
        with pytest.raises(KeyboardInterrupt):
            eai.fit(
                again, data, 2, verbose=0, checkpoint=tmp_path / "kept", callbacks=[StopsAtEnd()]
            )
        assert words in capsys.readouterr().out
        assert int(again.optimizer.iterations) == (2 + 8 if seed else 8)


class StopsAtEnd(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Ends a training at the end of an epoch, before a checkpoint of it."""

    def on_epoch_end(self, *_: Any) -> None:
        raise KeyboardInterrupt


class Stops(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Ends an epoch in its third step."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch == 2 and logs:
            raise KeyboardInterrupt


def small(width: int = 1, *, dtype: str = "float32") -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(width, dtype=dtype)], name="small")
    model.compile("adam", "mse")
    return model


def batches() -> tf.data.Dataset:
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4)


def test_data_that_cannot_go_on_within_an_epoch_begins_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        eai.fit(
            small(), batches(), 2, verbose=0,
            checkpoint=eai.Checkpoint(tmp_path, every_steps=1), callbacks=[Stops()],
        )  # fmt: skip
    model = small()
    eai.fit(model, batches(), 2, verbose=0, checkpoint=tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "resuming from epoch 1, step 2",
        "the data cannot go on within an epoch: epoch 1 begins again",
    ]
    assert int(model.optimizer.iterations) == 2 + 8


def test_a_finished_training_is_loaded_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = small(dtype="bfloat16"), small(dtype="bfloat16")
    eai.fit(first, batches(), 2, verbose=0, checkpoint=tmp_path)
    assert eai.fit(again, batches(), 2, verbose=0, checkpoint=tmp_path).epoch == []
    assert "all 2 epochs are in" in capsys.readouterr().out
    for ours, theirs in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A later fit of the same model begins at its own beginning, and a longer one goes on.
    assert eai.fit(again, batches(), 1, verbose=0).epoch == [0]
    assert eai.fit(again, batches(), 3, verbose=0, checkpoint=tmp_path).epoch == [2]


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    eai.fit(small(), batches(), verbose=0, checkpoint=tmp_path / "kept")
    with pytest.raises(EaiError, match=r"has `small/dense.*/kernel` as float32 \[3, 1\], but"):
        eai.fit(small(2), batches(), verbose=0, checkpoint=tmp_path / "kept")
    (tmp_path / "file").write_text("")
    with pytest.raises(EaiError, match=r"the checkpoint cannot be written: .*: make room"):
        eai.fit(small(), batches(), verbose=0, checkpoint=tmp_path / "file" / "folder")
    with pytest.raises(EaiError, match="keep is 0"):
        eai.Checkpoint(tmp_path, keep=0)


def test_a_training_that_is_asked_to_stop_ends_as_one_that_was_not(
    run_ranks: RunRanks, tmp_path: Path
) -> None:
    click_log_files.write_log(tmp_path / "train.tsv", range(104))
    found = run_ranks(
        _TRAINING
        + """
    from eai_notebook.errors import TrainingStopped
    from eai_notebook.telemetry import stop_request
    from eai_notebook.train import stop_agreement

    class Asks(keras.callbacks.Callback):
        "Asks one rank alone."
        def on_train_batch_end(self, batch, logs=None):
            if rank == 1 and self.model.optimizer.iterations == 3:
                stop_request.ask()

    def histories(**more):
        made = model()
        history = eai.fit(made, eai.io.criteo("train.tsv", 8), 2, verbose=0, **more)
        return state(made), history.history

    stop_agreement.EVERY_S = 0.0  # an exchange at every step, whatever the machine
    whole, stopped = histories(), "not"
    try:
        histories(checkpoint="kept", callbacks=[Asks()])
    except TrainingStopped as error:
        stopped = error.what
    end, rest = histories(checkpoint="kept")
    report({"stopped": stopped, "same": end == whole[0], "whole": whole[1], "rest": rest})
    """,
        2,
    )
    for each in found:
        assert "at epoch 1, step 3;" in each["stopped"]
        assert each["same"]
        # Those of the epoch that was gone on with are of its rest.
        for name, values in each["whole"].items():
            assert each["rest"][name][1] == values[1]


class Asks(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Asks for a stop before a step of an epoch, or at the epoch's end for None."""

    def __init__(self, epoch: int, step: int | None) -> None:
        super().__init__()
        self.at = epoch, step
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, *_: Any, **__: Any) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, *_: Any, **__: Any) -> None:
        if (self.epoch, batch) == self.at:
            stop_request.ask()

    def on_epoch_end(self, epoch: int, *_: Any, **__: Any) -> None:
        if (epoch, None) == self.at:
            stop_request.ask()


@pytest.mark.parametrize(
    ("asks", "stopped", "newest"),
    [
        (Asks(0, 1), "step 1", 1),  # there is no end of an epoch to go back to
        (Asks(1, 1), "step 1", 4),
        (Asks(0, None), "the end of epoch 1", 4),
        (Asks(1, None), None, 8),  # all is trained
    ],
)
def test_where_a_stop_writes_if_the_data_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: Asks, stopped: str | None, newest: int
) -> None:
    monkeypatch.setattr(stop_agreement, "EVERY_S", 0.0)
    expected = pytest.raises(TrainingStopped, match=stopped) if stopped else nullcontext()
    with expected:
        eai.fit(small(), batches(), 2, verbose=0, checkpoint=tmp_path, callbacks=[asks])
    stop_request.ask(on=False)
    assert checkpoint_files.numbers(tmp_path)[0] == newest
