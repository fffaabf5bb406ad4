"""Training on parameter servers: the same weights as one process with the global batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.session import Session
from eai_notebook.train.servers.layout import lay_out, spread

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunRanks


def test_servers_share_ranks_or_are_apart() -> None:
    assert lay_out(2, 2, apart=False).servers == (0, 1)
    assert lay_out(3, 1, apart=True).workers == (0, 1)


@pytest.mark.parametrize(("servers", "apart"), [(0, False), (3, False), (2, True)])
def test_too_many_servers_are_refused(servers: int, apart: bool) -> None:
    with pytest.raises(EaiError, match=f"{servers} parameter servers cannot be"):
        lay_out(2, servers, apart=apart)


def test_weights_are_spread_by_their_bytes() -> None:
    sizes = [8, 8, 1, 1, 1, 5]
    place = spread(sizes, 3)
    load = [sum(s for s, p in zip(sizes, place, strict=True) if p == k) for k in range(3)]
    assert max(load) == 8


TRAINING = """
import keras, numpy as np, tensorflow as tf
from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import DistributedOptimizer, fit, servers

servers.start(2)
rank = collective.rank()
rng = np.random.default_rng(5)
x = rng.normal(size=(6, 2, 4, 3)).astype("f4")          # steps, ranks, rows, features
ids = rng.integers(0, 7, (6, 2, 4))
y = x.sum(-1, keepdims=True) + ids[..., None]

def make(rate=0.05, momentum=0.9):
    keras.utils.set_random_seed(1)
    numbers, words = keras.Input((3,)), keras.Input((), dtype="int64")
    joined = keras.layers.Concatenate()([numbers, keras.layers.Embedding(7, 2)(words)])
    model = keras.Model([numbers, words], keras.layers.Dense(1)(joined))
    model.compile(DistributedOptimizer(keras.optimizers.SGD(rate, momentum=momentum)), "mse")
    return model

def mine():
    # in Python, so that it can be read only in this rank's own process
    for step in range(6):
        yield (x[step, rank], ids[step, rank]), y[step, rank]

kinds = ((tf.TensorSpec((4, 3)), tf.TensorSpec((4,), tf.int64)), tf.TensorSpec((4, 1)))
data = tf.data.Dataset.from_generator(mine, output_signature=kinds)
model = make()
history = fit(model, data, epochs=2, steps_per_epoch=6, verbose=0)
trained = [w.tolist() for w in model.get_weights()]

model = make()
for _ in range(2):
    for step in range(6):
        both = [x[step].reshape(8, 3), ids[step].reshape(8)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(both) - y[step].reshape(8, 1)) ** 2)
        grads = [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_weights)]
        model.optimizer.inner_optimizer.apply(grads, model.trainable_weights)
expected = [w.tolist() for w in model.get_weights()]

servers.current().asynchronous = True
# a gradient that is late by a step is one in an older direction: no momentum, small steps
alone = fit(make(0.01, 0.0), data, epochs=8, steps_per_epoch=6, verbose=0)
refused = ""
try:
    fit(make(), data, validation_data=data, steps_per_epoch=6)
except EaiError as error:
    refused = error.what
report({"trained": trained, "expected": expected, "refused": refused,
        "loss": history.history.get("loss"), "alone": alone.history.get("loss")})
"""


@pytest.mark.ranks
@pytest.mark.slow
def test_synchronous_steps_are_those_of_the_global_batch(run_ranks: RunRanks) -> None:
    first, second = run_ranks(TRAINING, n=2, timeout=280)
    for trained, expected in zip(first["trained"], first["expected"], strict=True):
        np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-5)
    assert second["trained"] == first["trained"]
    assert first["loss"][1] < first["loss"][0]
    assert min(first["alone"]) < first["alone"][0] / 1.5
    assert second["loss"] is None
    assert "validation_data has no meaning on parameter servers" in first["refused"]


RECORDED = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

rng = np.random.default_rng(eai.rank())
x = rng.normal(size=(40, 3)).astype("f4")
data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(8, True)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
eai.fit(model, data, epochs=2, steps_per_epoch=5, verbose=0)
seconds = list(eai.train.servers.current().step_seconds)
"""


@pytest.mark.ranks
@pytest.mark.slow
def test_synchronous_steps_are_recorded_and_nothing_is_guessed_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    with Session(2) as session:
        session.serve(1)
        session.run(RECORDED)
        seconds = session.pull("seconds")
        (run,) = session.runs
        said = session.report(run).to_text()
    assert (run.info.size, run.info.state) == (1, "done")
    assert run.info.meta["parameter_servers"] == 1
    rows = run.rows(0)
    assert len(rows) == len(seconds) - 1 == 9
    took = rows["end"] - rows["begin"]
    np.testing.assert_allclose(took[np.arange(9) != 4], np.delete(seconds[1:], 4), atol=0.02)
    assert rows["samples"].tolist() == [16.0] * 9
    assert np.isnan(rows["input"]).all()
    assert np.isnan(rows["reduced"]).all()
    assert "bound" not in said
    assert f"step {1e3 * np.mean(took[1:]):.2f} ms" in said
    assert "input                     not measured" in said
