"""`fit`, `callbacks`, `step`: one run of all ranks, its metrics, its record, its refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.errors import EaiError
from eai_notebook.telemetry import messages
from eai_notebook.train.recording import step_clock

RunRanks = Callable[..., list[Any]]


@pytest.fixture
def sent() -> Iterator[list[messages.Message]]:
    """What the step clock says during a test."""
    step_clock.end_run("done")  # a fit that failed in another test has left its run open
    heard: list[messages.Message] = []
    before = messages.set_sink(heard.extend)
    yield heard
    step_clock.end_run("done")
    messages.set_sink(before)


def model_and_data(steps: int = 4) -> tuple[keras.Model, tf.data.Dataset]:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).normal(size=(steps * 8, 3)).astype("float32")
    return model, tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(8)


def rows_of(heard: list[messages.Message]) -> np.ndarray:
    return np.concatenate([m.rows for m in heard if isinstance(m, messages.StepsDone)])


def test_a_run_of_one_process_is_recorded(sent: list[messages.Message]) -> None:
    model, data = model_and_data(steps=5)
    history = eai.fit(model, data, epochs=2, verbose=0)
    prepared, began, ended = sent[0], sent[1], sent[-1]
    assert isinstance(prepared, messages.TrainingPrepared)
    assert isinstance(began, messages.RunBegan)
    assert (began.rank, began.size, began.meta["optimizer"]) == (0, 1, "Adam")
    assert isinstance(ended, messages.RunEnded)
    assert ended.outcome == "done"
    rows = rows_of(sent)
    assert rows["step"].tolist() == list(range(10))
    assert (rows["samples"] == 8).all()
    assert (rows["end"] > rows["begin"]).all()
    # The first step optimizes the graph, and one process exchanges nothing.
    assert np.isnan(rows["compute"][0])
    assert np.isnan(rows["ready"]).all()
    parts = rows["input"] + rows["compute"] + rows["update"]
    assert (parts[1:] > 0).all()
    assert (parts[1:] <= (rows["end"] - rows["begin"])[1:]).all()
    assert 0 < ended.measuring < (rows["end"] - rows["begin"]).sum()
    assert len(history.history["loss"]) == 2


def test_a_second_fit_is_not_compiled_again(sent: list[messages.Message]) -> None:
    model, data = model_and_data()
    eai.fit(model, data, verbose=0)
    step = model.train_function
    eai.fit(model, data, verbose=0)
    assert model.train_function is step
    assert step._marked.experimental_get_tracing_count() == 1
    assert [m.outcome for m in sent if isinstance(m, messages.RunEnded)] == ["done", "done"]


def test_of_many_short_steps_some_are_measured_and_all_are_counted(
    sent: list[messages.Message],
) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    first = keras.ops.convert_to_numpy(model.weights[0])
    batches = tf.data.Dataset.from_tensors((np.ones((6, 2)), np.zeros((6, 1)))).repeat(4000)
    eai.fit(model, batches, verbose=0)
    rows = rows_of(sent)
    measured = np.isfinite(rows["compute"])
    assert rows["step"].tolist() == list(range(4000))
    assert (rows["samples"] == 6).all()
    assert (rows["end"] > rows["begin"]).all()
    assert measured[1:50].all()
    assert 0 < measured[2000:].mean() < 0.5
    assert model.optimizer.iterations.numpy() == 4000
    assert not np.allclose(first, model.weights[0])


def test_a_failing_fit_ends_its_run_as_failed(sent: list[messages.Message]) -> None:
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            if batch == 2 and logs:
                raise ZeroDivisionError

    model, data = model_and_data()
    with pytest.raises(ZeroDivisionError):
        eai.fit(model, data, callbacks=[Fails()], verbose=0)
    assert isinstance(sent[-1], messages.RunEnded)
    assert sent[-1].outcome == "failed"
    assert len(rows_of(sent)) == 3


def test_the_end_of_a_cell_closes_the_run_of_a_custom_loop(sent: list[messages.Message]) -> None:
    batches = iter([np.ones((6, 2)), np.ones((6, 2))])
    for _ in range(2):
        with eai.step() as this:
            this.next(batches)
    assert step_clock.current() is not None
    messages.cell_ended("interrupted")
    assert step_clock.current() is None
    assert isinstance(sent[-1], messages.RunEnded)
    assert sent[-1].outcome == "interrupted"
    assert rows_of(sent)["samples"].tolist() == [6, 6]
    assert rows_of(sent)["input"][1] >= 0


def test_a_step_that_raises_is_not_counted(sent: list[messages.Message]) -> None:
    with eai.step(samples=1):
        pass
    with pytest.raises(ValueError, match="no"), eai.step(samples=1):
        raise ValueError("no")
    step_clock.end_run("done")
    assert len(rows_of(sent)) == 1


def test_data_that_knows_its_fault_says_it() -> None:
    class Broken(keras.utils.PyDataset):
        error = EaiError("part-3.tsv, row 7 has 39 fields", "repair it", code="row-bad")
        num_batches = 2

        def __getitem__(self, index: int) -> Any:
            raise RuntimeError("somewhere in a thread")

    model, _ = model_and_data()
    with pytest.raises(EaiError, match="row 7") as raised:
        eai.fit(model, Broken(), verbose=0)
    assert raised.value.__suppress_context__


def test_steps_per_execution_is_said_not_to_be_measured() -> None:
    model, data = model_and_data()
    model.compile("sgd", "mse", steps_per_execution=2)
    with pytest.warns(UserWarning, match="steps are not measured"):
        eai.fit(model, data, verbose=0)


def test_an_eager_model_is_measured_too(sent: list[messages.Message]) -> None:
    model, data = model_and_data()
    model.compile("sgd", "mse", run_eagerly=True)
    eai.fit(model, data, verbose=0)
    assert (rows_of(sent)["compute"][1:] > 0).all()


def test_an_uncompiled_model_is_refused() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(EaiError, match=r"call model\.compile"):
        eai.fit(model, model_and_data()[1])


_RANKS = """
    import keras, numpy as np, tensorflow as tf
    import eai_notebook as eai
    from eai_notebook import collective
    from eai_notebook.errors import EaiError
    from eai_notebook.telemetry import messages
    heard = []
    messages.set_sink(heard.extend)
    collective.ensure_formed()
    rank, size, batch = eai.rank(), eai.size(), 16
    def rows():
        return np.concatenate([m.rows for m in heard if isinstance(m, messages.StepsDone)])
    def began():
        return [m for m in heard if isinstance(m, messages.RunBegan)]
    def weights(model):
        return np.concatenate([w.ravel() for w in model.get_weights()])
    def apart(model):
        table = collective.gather_numpy(weights(model))
        return float(np.abs(table - table[0]).max())
    def refusal(call):
        try:
            call()
        except EaiError as error:
            return str(error)
    rng = np.random.default_rng(4)
    x = rng.normal(size=(160, 6)).astype("float32")
    y = (x[:, :1] + rng.normal(size=(160, 1)) > 0).astype("float32")
"""


def test_fit_on_two_ranks(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        _RANKS
        + """
    # Rank 0 has 5 batches, rank 1 has 4: all take 4. Rank r's initial weights are its own.
    # The model has no input shape: it is built when the first batch is there.
    keras.utils.set_random_seed(rank)
    model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization(),
                              keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["auc", keras.metrics.Precision()])
    mine = slice(0, 80) if rank == 0 else slice(80, 144)
    data = tf.data.Dataset.from_tensor_slices((x[mine], y[mine])).batch(batch)

    class Spy(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.state = weights(self.model)

    spy, path = Spy(), f"log{rank}.csv"
    history = eai.fit(model, data, epochs=2, validation_data=data,
                      callbacks=[spy, keras.callbacks.CSVLogger(path)]).history
    # What one process says about the validation samples of all ranks.
    both = model.evaluate(x[:144], y[:144], verbose=0, return_dict=True, batch_size=16)
    taken = rows()
    walls = taken["end"] - taken["begin"]
    report({
        "history": {k: [float(v) for v in vs] for k, vs in history.items()},
        "both": {k: float(v) for k, v in both.items()},
        "apart": apart(model), "files": os.path.exists(path),
        "run": began()[0].run, "size": began()[0].size,
        "steps": taken["step"].tolist(), "bytes": taken["bytes"].tolist()[1:],
        "ordered": bool(((taken["reduced"] >= taken["ready"])[1:]).all()),
        "fits": bool((taken["input"] + taken["compute"] + taken["update"]
                      + taken["reduced"] - taken["ready"] <= walls)[1:].all()),
        "hidden": bool((taken["hidden"] >= 0)[1:].all()),
        "parameters": int(sum(np.prod(w.shape) for w in model.trainable_weights)),
        "outcome": heard[-1].outcome,
    })
    """,
        2,
    )
    first, second = reports
    assert first["history"] == second["history"]
    assert first["apart"] == second["apart"] == 0
    assert (first["files"], second["files"]) == (True, False)
    assert first["run"] == second["run"]
    for report in reports:
        assert report["size"] == 2
        assert report["steps"] == list(range(8))
        assert set(report["bytes"]) == {4 * report["parameters"]}
        assert report["ordered"]
        assert report["fits"]
        assert report["hidden"]
        assert report["outcome"] == "done"
        for name in ("auc", "precision", "loss"):
            assert report["history"][f"val_{name}"][-1] == pytest.approx(
                report["both"][name], rel=1e-5
            )


def test_plain_fit_custom_loops_and_refusals_on_two_ranks(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        _RANKS
        + """
    def fresh(optimizer, seed=None, dtype=None):
        keras.utils.set_random_seed(rank if seed is None else seed)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu", dtype=dtype),
                                  keras.layers.Dense(1, dtype=dtype)])
        model.compile(optimizer, "mse")
        return model
    mine = slice(rank * 64, rank * 64 + 64)
    data = tf.data.Dataset.from_tensor_slices((x[mine], y[mine])).batch(batch)
    found = {}

    # Plain fit with the callbacks: the best epoch is restored on rank 0 alone, then shared.
    model = fresh(eai.DistributedOptimizer("sgd"))
    backup = lambda: keras.callbacks.BackupAndRestore(f"backup{rank}", delete_checkpoint=False)
    model.fit(data, epochs=2, callbacks=eai.callbacks(backup()), verbose=0)
    again = fresh(eai.DistributedOptimizer("sgd"))
    epochs = again.fit(data, epochs=3, callbacks=eai.callbacks([backup()]), verbose=0).epoch
    found["resumed"] = [epochs, apart(again), os.path.exists(f"backup{rank}")]

    # One rank wants to stop: all do.
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = rank == 1
    class StopNow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = rank == 1 and batch == 1
    found["stopped"] = [
        len(eai.fit(fresh("sgd"), data, 5, callbacks=[stop], verbose=0).epoch)
        for stop in (Stop(), StopNow())
    ]

    # Keras wraps a loss scale around the optimizer; it must come inside.
    mixed = fresh(eai.DistributedOptimizer("adam"), dtype="mixed_float16")
    mixed.dtype_policy = "mixed_float16"
    mixed.compile(keras.optimizers.LossScaleOptimizer(eai.DistributedOptimizer("adam")), "mse")
    eai.fit(mixed, data, epochs=2, verbose=0)
    found["mixed"] = [type(mixed.optimizer).__name__,
                      type(mixed.optimizer.inner_optimizer).__name__,
                      type(mixed.optimizer.inner_optimizer.inner_optimizer).__name__, apart(mixed)]

    # A custom loop in a tf.function, against one process with the global batch.
    def loop(exchange, data, seed):
        model, optimizer = fresh("sgd", seed), keras.optimizers.SGD(0.1)
        @tf.function
        def update(inputs, targets):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            gradients = exchange(gradients, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
        batches = iter(data)
        for _ in range(4):
            with eai.step() as this:
                update(*this.next(batches))
        return weights(model)
    heard.clear()
    ours = loop(eai.allreduce_gradients, data, rank)
    messages.cell_ended("done")
    taken = rows()
    order = np.concatenate([np.r_[i * 16:i * 16 + 16, 64 + i * 16:80 + i * 16] for i in range(4)])
    whole = tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(32)
    reference = loop(lambda gradients, _: gradients, whole, 0)
    messages.cell_ended("done")
    found["loop"] = [float(np.abs(ours - reference).max()), taken["samples"].tolist(),
                     bool((taken["reduced"] > taken["ready"])[1:].all()),
                     bool(np.isnan(taken["update"]).all())]

    found["refused"] = [
        refusal(lambda: fresh("sgd").fit(data, callbacks=eai.callbacks(), verbose=0)),
        refusal(lambda: fresh(eai.DistributedOptimizer("sgd")).fit(
            data.take(4 - rank), callbacks=eai.callbacks(), verbose=0)),
        refusal(lambda: eai.fit(fresh("sgd"), data.filter(lambda *_: True), verbose=0)),
    ]
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1 + rank)])
    other.compile("sgd", "mse")
    found["refused"].append(refusal(lambda: eai.fit(other, data, verbose=0)))
    report(found)
    """,
        2,
    )
    for rank, found in enumerate(reports):
        assert found["resumed"] == [[2], 0, rank == 0]
        assert found["stopped"] == [1, 1]
        assert found["mixed"] == ["DistributedOptimizer", "LossScaleOptimizer", "Adam", 0]
        apart, samples, ordered, unknown = found["loop"]
        assert apart < 1e-6
        assert samples == [16] * 4
        assert ordered
        assert unknown
        plain, uneven, uncounted, different = found["refused"]
        assert "does not exchange gradients" in plain
        assert "4 steps on rank 0 but 3 steps on rank 1" in uneven
        assert "number of batches is unknown" in uncounted
        assert "rank 1's model has other weights" in different
