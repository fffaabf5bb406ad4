"""Elastic training on one process: virtual ranks, their data, their steps, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.elastic import virtual_step
from eai_notebook.elastic.virtual_data import OpenedData
from eai_notebook.errors import EaiError
from eai_notebook.ledger.virtual_ranks import block_of

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.random.default_rng(0).normal(size=(70, 3)).astype("float32")
LABELS = (ROWS[:, :1] > 0).astype("float32")


def model_of(**compiled: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    options = {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"]}
    model.compile(**{**options, **compiled})
    return model


def trained(model: keras.Model, **settings: Any) -> dict[str, list[float]]:
    options = {"x": ROWS, "y": LABELS, "batch_size": 8, "epochs": 2, "verbose": 0}
    options |= {"elastic": True, "virtual_ranks": 4}
    found: dict[str, list[float]] = eai.fit(model, **{**options, **settings}).history
    return found


@pytest.mark.parametrize("live", range(1, 9))
def test_every_virtual_rank_is_run_once_in_order(live: int) -> None:
    blocks = [block_of(position, live, 6) for position in range(live)]
    assert [virtual for block in blocks for virtual in block] == list(range(6))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_losses_metrics_and_validation_are_there() -> None:
    found = trained(model_of(), validation_data=(ROWS[:30], LABELS[:30]))
    assert sorted(found) == ["AUC", "loss", "val_AUC", "val_loss"]
    assert all(np.isfinite(values).all() and len(values) == 2 for values in found.values())


def test_validation_is_what_keras_evaluates() -> None:
    model = model_of()
    found = trained(model, validation_data=(ROWS[:30], LABELS[:30]))
    usual = model.evaluate(ROWS[:30], LABELS[:30], verbose=0, return_dict=True)
    assert found["val_loss"][-1] == pytest.approx(usual["loss"], rel=1e-5)
    assert found["val_AUC"][-1] == pytest.approx(usual["AUC"], rel=1e-5)


def test_without_layers_that_draw_a_step_is_that_of_the_global_batch() -> None:
    keras.utils.set_random_seed(1)
    first = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    first.compile("sgd", "mse")
    other = keras.models.clone_model(first)
    other.set_weights(first.get_weights())
    other.compile("sgd", "mse")
    rows, labels = ROWS[:64], LABELS[:64]
    eai.fit(first, rows, labels, batch_size=16, verbose=0, elastic=True, virtual_ranks=4)
    other.fit(rows, labels, batch_size=64, verbose=0)
    for mine, theirs in zip(first.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_step_has_no_effect_and_can_be_made_again() -> None:
    model = model_of()
    model.build((None, 3))
    model.optimizer.build(model.trainable_variables)
    model.evaluate(ROWS[:2], LABELS[:2], verbose=0)  # (Keras makes the metrics now.)
    model.reset_metrics()
    step = virtual_step.VirtualStep(model, [7])
    batch = tf.constant(ROWS[:8]), tf.constant(LABELS[:8])
    step.prepare(batch)
    before = [np.asarray(v).copy() for v in (*model.weights, *model.metrics_variables)]
    one = step.train([(2, batch)], 5)
    again = step.train([(2, batch)], 5)
    other = step.train([(3, batch)], 5)
    assert np.array_equal(one.numbers, again.numbers)
    assert not np.array_equal(one.numbers, other.numbers)  # another dropout mask
    after = [np.asarray(v).copy() for v in (*model.weights, *model.metrics_variables)]
    assert all(map(np.array_equal, before, after))


def test_rows_of_tables_travel_alone_and_train_as_dense_gradients() -> None:
    words = np.random.default_rng(0).integers(0, 20, size=(64, 4))
    found = []
    for kind in (keras.layers.Embedding, _Dense):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((4,)), kind(20, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        settings = {"batch_size": 4, "epochs": 2, "verbose": 0, "virtual_ranks": 4}
        eai.fit(model, words, words[:, :1] * 0.1, elastic=True, **settings)
        found.append(model.get_weights())
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


class _Dense(keras.layers.Embedding):
    """A table whose gradient is dense."""

    def call(self, inputs: Any) -> Any:
        """Look rows up by a product."""
        return keras.ops.one_hot(inputs, self.input_dim) @ self.embeddings


def test_every_row_is_trained_on_once_an_epoch() -> None:
    class Seen(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            tf.numpy_function(lambda x: rows.extend(x[:, 0].tolist()), [inputs], [])
            return inputs

    rows: list[float] = []
    x = np.arange(1, 72, dtype="float32")[:, None]  # not a multiple of anything
    model = keras.Sequential([keras.Input((1,)), Seen(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    sizes = {"batch_size": 5, "epochs": 1, "verbose": 0}
    virtual_step_rows = rows
    eai.fit(model, x, x / 100, elastic=True, virtual_ranks=4, **sizes)
    trained_on = virtual_step_rows[-71:]
    assert sorted(trained_on) == x[:, 0].tolist()


@pytest.mark.parametrize("of_epoch", [False, True])
def test_a_function_opens_the_data_of_a_virtual_rank(of_epoch: bool) -> None:
    def of_two(rank: int, size: int) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).shard(size, rank)
        return data.batch(8)

    def of_three(rank: int, size: int, epoch: int) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).shard(size, rank)
        return data.shuffle(100, seed=epoch * size + rank).batch(8)

    found = trained(model_of(), x=of_three if of_epoch else of_two, y=None)
    again = trained(model_of(), x=of_three if of_epoch else of_two, y=None)
    assert found == again


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Fifty rows, in row groups of seven."""
    x = np.arange(50.0, dtype="float32")
    folder = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": x, "y": x}), folder, row_group_size=7)
    return folder


@pytest.mark.parametrize(("shard", "mapped"), [(True, False), (False, True)])
def test_virtual_ranks_read_every_row_of_a_file_once(
    table: Path, shard: bool, mapped: bool
) -> None:
    def opened(_rank: int, _size: int) -> tf.data.Dataset:
        data = eai.io.parquet(table, batch_size=4, label="y", shard=shard)
        return data.map(lambda x, y: (x, y)) if mapped else data

    def read(data: OpenedData, epoch: int) -> list[list[list[float]]]:
        steps = [[(virtual, step) for step in range(data.count(virtual))] for virtual in range(3)]
        return [
            [data.batch(v, epoch, s)[1].numpy().ravel().tolist() for v, s in each] for each in steps
        ]

    data = OpenedData(opened, 3, None)
    first, second = read(data, 0), read(data, 1)
    for epoch in (first, second):
        rows = [row for virtual in epoch for batch in virtual for row in batch]
        assert sorted(rows) == list(range(50))
    assert first != second
    # Another rank takes virtual rank 1 over in the middle of the second epoch, and may lose it again.
    other = OpenedData(opened, 3, None)
    assert other.batch(1, 1, 2)[1].numpy().ravel().tolist() == second[1][2]
    assert other.batch(1, 1, 2)[1].numpy().ravel().tolist() == second[1][2]
    assert other.batch(1, 1, 3)[1].numpy().ravel().tolist() == second[1][3]
    other.begin(range(2), 1)
    assert other.batch(1, 1, 4)[1].numpy().ravel().tolist() == second[1][4]
    other.begin(range(1), 1)
    assert other.batch(1, 1, 0)[1].numpy().ravel().tolist() == second[1][0]


def test_a_reader_is_given_as_in_other_trainings(table: Path) -> None:
    rows = {"x": np.arange(50.0, dtype="float32")}
    inputs = keras.Input((), name="x")
    outputs = keras.layers.Dense(1)(keras.layers.Reshape((1,))(inputs))
    losses = []
    for data in (
        eai.io.parquet(table, batch_size=4, label="y"),
        lambda _rank, _size: eai.io.parquet(table, batch_size=4, label="y"),
    ):
        keras.utils.set_random_seed(1)
        whole = keras.models.clone_model(keras.Model({"x": inputs}, outputs))
        whole.compile(keras.optimizers.SGD(1e-5), "mse")
        losses.append(trained(whole, x=data, y=None, batch_size=None)["loss"])
        assert np.isfinite(whole.predict(rows, verbose=0)).all()
    assert losses[0] == losses[1]


def test_what_another_rank_could_not_go_on_with_is_refused() -> None:
    def shuffled(rank: int, size: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).shuffle(9).batch(8)

    for data in (shuffled, tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).batch(8)):
        with pytest.raises(EaiError) as refused:
            trained(model_of(), x=data, y=None)
        assert refused.value.code == "elastic-data"
    with pytest.raises(EaiError, match="give elastic=True") as refused:
        trained(model_of(), elastic=False)
    assert refused.value.code == "not-elastic"
    accumulating = keras.optimizers.Adam(gradient_accumulation_steps=2)
    with pytest.raises(EaiError, match="virtual_ranks=") as refused:
        trained(model_of(optimizer=accumulating))
    assert refused.value.code == "not-elastic"
    table = keras.Sequential(
        [keras.Input((3,)), eai.ShardedEmbedding(9, 2), keras.layers.Flatten()]
    )
    table.add(keras.layers.Dense(1))
    table.compile("adam", "mse")
    with pytest.raises(EaiError, match=r"keras\.layers\.Embedding") as refused:
        eai.fit(table, ROWS.astype("int32") % 9, LABELS, elastic=True, virtual_ranks=4)
    assert refused.value.code == "not-elastic"


def test_a_training_goes_on_within_an_epoch(tmp_path: Path) -> None:
    whole: list[float] = []
    trained(model_of(), callbacks=[_Losses(whole)])
    parts: list[float] = []
    checkpoint = eai.Checkpoint(tmp_path, every_steps=1)
    with pytest.raises(_Stop):
        trained(model_of(), callbacks=[_Losses(parts, 4)], checkpoint=checkpoint)
    trained(model_of(), callbacks=[_Losses(parts)], checkpoint=checkpoint)
    assert len(parts) == len(whole)
    np.testing.assert_allclose(parts[3:], whole[3:], rtol=1e-6)
    with pytest.raises(EaiError) as refused:
        trained(model_of(), virtual_ranks=2, checkpoint=_within(tmp_path))
    assert refused.value.code == "checkpoint-virtual-ranks"


def _within(folder: Path) -> Path:
    """Leave a folder's first checkpoint, which is within an epoch."""
    for path in sorted(folder.glob("*.npz"))[1:]:
        path.unlink()
    return folder


class _Stop(Exception):  # noqa: N818
    """A training is to end here."""


class _Losses(keras.callbacks.Callback):
    """Notes the loss of every step, and stops after some."""

    def __init__(self, losses: list[float], most: int | None = None) -> None:
        super().__init__()
        self._losses, self._most = losses, most

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop if it is time to."""
        if self._most == len(self._losses):
            raise _Stop
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the step's own loss."""
        self._losses.append(logs["loss"])


def test_what_a_step_only_reads_is_not_exchanged() -> None:
    model = model_of(metrics=[])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    model.build((None, 3))
    model.optimizer.build(model.trainable_variables)
    model.evaluate(ROWS[:2], LABELS[:2], verbose=0)
    step = virtual_step.VirtualStep(model, [7])
    batch = tf.constant(ROWS[:8]), tf.constant(LABELS[:8])
    step.prepare(batch)
    given = step.train([(0, batch)], 0)
    moving, loss = 2 * 8, 2
    assert len(given.numbers) == moving + loss
    lengths = [int(np.prod(v.shape)) for v in model.trainable_variables]
    assert len(given.gradients) == sum(-(-length // 16) * 16 for length in lengths)


def test_a_loss_scale_leaves_the_updates_as_they_are() -> None:
    found = []
    for scaled in (False, True):
        model = model_of(optimizer="sgd")
        before = model.get_weights()
        if scaled:
            model.optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
        trained(model, epochs=1)
        found.append([a - b for a, b in zip(model.get_weights(), before, strict=True)])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
