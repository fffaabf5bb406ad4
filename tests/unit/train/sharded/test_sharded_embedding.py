"""A table spread over the ranks: the model of a whole one, saved, and gone on with on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.errors import EaiError
from eai_notebook.train.sharded.sharded_embedding import explained
from eai_notebook.train.sharded.sharded_variables import Shard, check_optimizer, copies, mark, parts

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]


def test_on_one_rank_it_is_an_embedding(tmp_path: Path) -> None:
    table = eai.ShardedEmbedding(20, 3, seed=5, initial_range=0.5)
    ids = np.array([[0, 19, 3], [3, 3, 1]])
    model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
    np.testing.assert_array_equal(model.predict(ids, verbose=0), table.embeddings.numpy()[ids])
    first = table.embeddings.numpy()
    assert (np.abs(first) <= 0.5).all()
    assert np.abs(first).max() > 0.4
    assert abs(first.mean()) < 0.2
    assert len(np.unique(first)) == 60
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.layers[0].embeddings.numpy(), first)
    assert again.layers[0].get_config() == table.get_config()


def test_an_id_outside_is_named() -> None:
    table = eai.ShardedEmbedding(20, 3, name="users")
    with pytest.raises(EaiError, match=r"rank 0: id 20 is outside of the table `users`.*0 to 19"):
        table(np.array([1, 20]))
    look_up = tf.function(table, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        look_up(tf.constant([[1, -7], [2, 30]]))
    error = explained(caught.value)
    assert error is not None
    assert "id -7 is outside of the table `users`" in error.what
    assert explained(ValueError("something else")) is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"input_dim": 0}, "input_dim is 0"),
        ({"output_dim": -1}, "output_dim is -1"),
        ({"wire": "int8"}, "unknown wire format 'int8'"),
    ],
)
def test_bad_settings_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(EaiError, match=message):
        eai.ShardedEmbedding(**{"input_dim": 3, "output_dim": 3, **bad})


def test_optimizers_that_need_the_whole_table_are_refused() -> None:
    whole, part = keras.Variable([1.0]), keras.Variable([1.0])
    mark(part, Shard("t", 4, 1, 2))
    assert copies([whole, part]) == [whole]
    assert parts([whole, part]) == [part]
    check_optimizer(keras.optimizers.SGD(clipvalue=1.0), [part])
    check_optimizer(keras.optimizers.SGD(clipnorm=1.0), [whole])
    for bad in (
        keras.optimizers.SGD(clipnorm=1.0),
        keras.optimizers.SGD(global_clipnorm=1.0),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
        eai.RoutedOptimizer({"wide": keras.optimizers.SGD(clipnorm=1.0)}),
    ):
        with pytest.raises(EaiError, match="part"):
            check_optimizer(bad, [part])


COMMON = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError
collective.ensure_formed()
ROWS, WIDTH = 11, 4

def data(bad=False):
    rng = np.random.default_rng(collective.rank())
    ids = rng.integers(0, ROWS, (48, 3))
    ids[5, 1] = ROWS + 2 if bad else 0
    y = rng.normal(size=(48, 1)).astype("f4")
    return tf.data.Dataset.from_tensor_slices((ids, y)).batch(8)

def model_of(layer, **how):
    keras.utils.set_random_seed(3)
    net = keras.Sequential([keras.Input((3,), dtype="int64"), layer, keras.layers.Flatten(),
                            keras.layers.Dense(1)])
    net.compile(eai.DistributedOptimizer(keras.optimizers.Adam(0.01), **how), "mse")
    return net
"""


@pytest.mark.timeout(900)
def test_it_trains_as_a_whole_table_does_and_moves_to_other_ranks(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        COMMON
        + """
from eai_notebook.telemetry import messages
rows = []
messages.set_sink(lambda batch: rows.extend(m.rows for m in batch if isinstance(m, messages.StepsDone)))
r, n = collective.rank(), collective.size()
spread = eai.ShardedEmbedding(ROWS, WIDTH, seed=1)
net = model_of(spread, row_wise="exact")
whole = keras.layers.Embedding(ROWS, WIDTH)
reference = model_of(whole)
start = np.zeros((spread.embeddings.shape[0] * n, WIDTH), "f4")
start[r::n] = spread.embeddings.numpy()
start = collective.allreduce_numpy(start)[:ROWS]
whole.embeddings.assign(start)
losses = [eai.fit(m, data(), epochs=2, verbose=0, validation_data=data(),
                  checkpoint="both" if m is net else None).history for m in (net, reference)]
table = whole.embeddings.numpy()
mine = spread.embeddings.numpy()[: len(range(r, ROWS, n))]
apart = float(np.abs(mine - table[r::n]).max())
moved = float(np.abs(table - start).max())
slots = [np.asarray(v) for v in net.optimizer.variables if v.shape == spread.embeddings.shape]
evaluated = [float(m.evaluate(data(), verbose=0)) for m in (net, reference)]
sent = np.nanmean(np.concatenate(rows)["embedding_bytes"])
refused = ""
try:
    net.save("model.keras")
except EaiError as error:
    refused = str(error)
# On from the checkpoint, with a table that had other values.
net = model_of(eai.ShardedEmbedding(ROWS, WIDTH, seed=2))
eai.fit(net, data(), epochs=2, verbose=0, checkpoint="both")
back = float(np.abs(net.layers[0].embeddings.numpy()[: len(mine)] - mine).max())
half = model_of(eai.ShardedEmbedding(ROWS, WIDTH, seed=1, wire="fp16"))
eai.fit(half, data(), epochs=2, verbose=0)
rounded = float(np.abs(half.layers[0].embeddings.numpy()[: len(mine)] - mine).max())
if r == 0:
    np.save("table.npy", table)
net = model_of(eai.ShardedEmbedding(ROWS, WIDTH, name="users"))
try:
    eai.fit(net, data(bad=r == 1), verbose=0)
    bad = "nothing"
except Exception as error:
    bad = str(error)
collective.release()
report([apart, moved, losses, len(slots), evaluated, refused, back, rounded, start.tolist(), sent, bad])
""",
        2,
    )
    for apart, moved, losses, slots, evaluated, refused, back, rounded, _, sent, _ in reports:
        assert apart < 1e-6
        assert moved > 0.01
        for name, values in losses[0].items():
            assert values == pytest.approx(losses[1][name], rel=1e-5)
        assert slots == 2
        assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-5)
        assert "spread over 2 ranks" in refused
        assert back == 0
        assert rounded < 2e-3
        assert 0 < sent < 48 * (4 + 16 + 16)
    (*_, start, _, freed), (*_, bad) = reports
    assert "rank 1: id 13 is outside of the table `users`" in bad
    assert freed != "nothing"

    (found,) = run_ranks(
        COMMON
        + """
layer = eai.ShardedEmbedding(ROWS, WIDTH, seed=1)
layer.build(None)
first = layer.embeddings.numpy().tolist()
net = model_of(eai.ShardedEmbedding(ROWS, WIDTH, seed=9))
eai.fit(net, data(), epochs=2, verbose=0, checkpoint="both")
gone = sorted(p.name for p in __import__("pathlib").Path("both").glob("shard-*"))
apart = float(np.abs(net.layers[0].embeddings.numpy() - np.load("table.npy")).max())
net.save("model.keras")
import pathlib
victim = pathlib.Path("both") / gone[-1]
victim.write_bytes(victim.read_bytes()[:-4] + b"oops")
try:
    eai.fit(model_of(eai.ShardedEmbedding(ROWS, WIDTH)), data(), epochs=2, verbose=0,
            checkpoint="both")
    damaged = "nothing"
except EaiError as error:
    damaged = str(error)
report([first, apart, gone, damaged])
""",
        1,
    )
    first, apart, files, damaged = found
    np.testing.assert_array_equal(first, start)  # the same table on any number of ranks
    assert apart < 1e-6
    # two epochs' checkpoints, of table and Adam's two variables, from two ranks
    assert len(files) == 2 * 3 * 2
    assert f"{files[-1]} is damaged" in damaged
