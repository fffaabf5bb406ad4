"""Training on parameter servers: the same weights as one process with the global batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
import tensorflow as tf
from paths import RANKS

from eai_notebook.errors import EaiError
from eai_notebook.ledger.formatting import ms
from eai_notebook.parameter_servers.server_layout import lay_out, spread
from eai_notebook.parameter_servers.server_weights import Server
from eai_notebook.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PreloadedRanks, RunRanks


def test_servers_share_ranks_or_are_apart() -> None:
    assert lay_out(2, 2, apart=False).servers == (0, 1)
    assert lay_out(3, 1, apart=True).workers == (0, 1)


@pytest.mark.parametrize(("servers", "apart"), [(0, False), (3, False), (2, True)])
def test_too_many_servers_are_refused(servers: int, apart: bool) -> None:
    with pytest.raises(EaiError, match=f": {servers}: ") as refused:
        lay_out(2, servers, apart=apart)
    assert refused.value.code == "server-count-invalid"


def test_weights_are_spread_by_their_bytes() -> None:
    sizes = [8, 8, 1, 1, 1, 5]
    server_of = spread(sizes, 3)
    load = [sum(s for s, p in zip(sizes, server_of, strict=True) if p == k) for k in range(3)]
    assert max(load) == 8


TRAINING = """
import keras, numpy as np, tensorflow as tf
from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook import parameter_servers
from eai_notebook.train import DistributedOptimizer, fit

parameter_servers.start(2)
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

parameter_servers.current().asynchronous = True
# a gradient that is late by a step is one in an older direction: no momentum, small steps
alone = fit(make(0.01, 0.0), data, epochs=8, steps_per_epoch=6, verbose=0)
refused = ""
try:
    fit(make(), data, check_every=2, steps_per_epoch=6)
except EaiError as error:
    refused = error.what
report({"trained": trained, "expected": expected, "refused": refused,
        "loss": history.history.get("loss"), "alone": alone.history.get("loss")})
"""


@pytest.mark.ranks
@pytest.mark.slow
def test_synchronous_steps_are_those_of_the_global_batch(run_ranks: RunRanks) -> None:
    first, second = run_ranks(TRAINING, n=2)
    for trained, expected in zip(first["trained"], first["expected"], strict=True):
        np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-5)
    assert second["trained"] == first["trained"]
    assert first["loss"][1] < first["loss"][0]
    assert min(first["alone"]) < first["alone"][0] / 1.5
    assert second["loss"] == first["loss"]
    assert "do not support check_every" in first["refused"]


@pytest.mark.ranks
@pytest.mark.slow
def test_a_slow_worker_trains_on_its_own_batch_in_every_step(run_ranks: RunRanks) -> None:
    program = RANKS / "slow_worker.py"
    first, second = run_ranks(program.read_text(), n=2)
    assert second == first
    assert first["runs"] >= 5
    assert max(first["differences"]) < 1e-5


SERVED = """
import keras, numpy as np, tensorflow as tf
from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook import parameter_servers
from eai_notebook.train import DistributedOptimizer, fit
from eai_notebook.train.checkpoint import Checkpoint

parameter_servers.start(2)
rank = collective.rank()
rng = np.random.default_rng(7)
x = rng.normal(size=(2, 24, 3)).astype("f4")            # ranks, rows, features
y = (x.sum(-1, keepdims=True) > 0.3).astype("f4")
data = tf.data.Dataset.from_tensor_slices((x[rank], y[rank])).batch(4, drop_remainder=True)
held = x[rank, :10 + 6 * rank], y[rank, :10 + 6 * rank]  # the shares differ in size
every = np.concatenate([x[0, :10], x[1, :16]]), np.concatenate([y[0, :10], y[1, :16]])

def make(rate, momentum=0.0):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(4, activation="tanh", kernel_regularizer="l2"),
        keras.layers.Dense(1, activation="sigmoid"),
    ])
    metrics = ["accuracy", keras.metrics.AUC(name="auc")]
    model.compile(keras.optimizers.SGD(rate, momentum=momentum), "binary_crossentropy", metrics=metrics)
    return model
"""

COUNTED = """
still = make(0.0)
known = still.evaluate(x.reshape(48, 3), y.reshape(48, 1), verbose=0, return_dict=True)
also = still.evaluate(*every, verbose=0, return_dict=True)
counted = fit(still, data, validation_data=held, verbose=0).history

refused = []
rows = make(0.1)
rows.compile(DistributedOptimizer("sgd", row_wise="exact"), "mse")
for asked in (
    (make(0.1), {"checkpoint": Checkpoint(FOLDER, every_steps=2)}),
    (make(0.1), {"class_weight": {0: 1.0, 1: 2.0}}),
    (rows, {}),
    (make(0.1), {"elastic": True}),
):
    try:
        fit(asked[0], data, **asked[1])
    except EaiError as error:
        refused.append(error.what)
report({"known": known, "also": also, "counted": counted, "refused": refused})
"""

OVER_EPOCHS = """
seen = []
class Watch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        seen.append(float(np.abs(self.model.get_weights()[0]).sum()))

rates = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0 if epoch == 1 else 0.5)
fit(make(0.5), data, epochs=3, callbacks=[rates, Watch()], verbose=0)

stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
stopped = fit(make(0.1), data, epochs=5, validation_data=held, callbacks=[stop], verbose=0).epoch

whole = make(0.3, 0.9)
fit(whole, data, epochs=3, verbose=0)
fit(make(0.3, 0.9), data, epochs=2, checkpoint=FOLDER, verbose=0)
resumed = make(0.3, 0.9)
epochs = fit(resumed, data, epochs=3, checkpoint=FOLDER, verbose=0).epoch
again = make(0.3, 0.9)
fit(again, data, epochs=1, verbose=0)
fit(again, data, epochs=2, verbose=0)
report({"seen": seen, "stopped": stopped, "epochs": epochs,
        **{name: [w.tolist() for w in model.get_weights()]
           for name, model in (("whole", whole), ("resumed", resumed), ("again", again))}})
"""


@pytest.mark.ranks
@pytest.mark.slow
def test_metrics_and_validation_are_those_of_the_ring(run_ranks: RunRanks, tmp_path: Path) -> None:
    program = (SERVED + COUNTED).replace("FOLDER", repr(str(tmp_path)))
    first, second = run_ranks(program, n=2)
    counted = first["counted"]
    for name in ("loss", "accuracy", "auc"):
        assert counted[name] == pytest.approx([first["known"][name]], abs=1e-5)
        assert counted[f"val_{name}"] == pytest.approx([first["also"][name]], abs=1e-5)
    assert second["counted"] == counted
    assert "weights at the end of an epoch only" in first["refused"][0]
    assert "do not support class_weight" in first["refused"][1]
    assert "row_wise" in first["refused"][2]
    assert "elastic" in first["refused"][3]


@pytest.mark.drill
@pytest.mark.ranks
@pytest.mark.slow
def test_schedules_stops_and_checkpoints_are_those_of_the_ring(
    run_ranks: RunRanks, tmp_path: Path
) -> None:
    program = (SERVED + OVER_EPOCHS).replace("FOLDER", repr(str(tmp_path)))
    first, second = run_ranks(program, n=2)
    assert first["seen"][0] == first["seen"][1] != first["seen"][2]
    assert second["seen"] == first["seen"]
    assert first["stopped"] == second["stopped"] == [0, 1]
    assert first["epochs"] == second["epochs"] == [2]
    for name in ("resumed", "again"):
        for found, expected in zip(first[name], first["whole"], strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert second["resumed"] == first["resumed"]


@pytest.mark.parametrize("workers", [2, None])
def test_a_weight_without_effect_on_the_loss_stays_as_it_is(workers: int | None) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    server = Server("/cpu:0", [0, 1], model, workers)
    kernel, bias = (weight.numpy().copy() for weight in server.weights)
    gradients = [None, tf.ones_like(server.weights[1])]
    if workers is None:
        server.apply(gradients)
    else:
        server.add(gradients)
        server.add(gradients)
        server.apply_sums()
    np.testing.assert_array_equal(server.weights[0].numpy(), kernel)
    np.testing.assert_allclose(server.weights[1].numpy(), bias - 0.01)


RECORDED = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

rng = np.random.default_rng(eai.rank())
x = rng.normal(size=(40, 3)).astype("f4")
data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(8, True)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
eai.fit(model, data, epochs=2, steps_per_epoch=5, verbose=0, name="first try")
from eai_notebook import parameter_servers
seconds = list(parameter_servers.current().step_seconds)
"""


@pytest.mark.ranks
@pytest.mark.slow
def test_synchronous_steps_are_recorded_and_nothing_is_guessed_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preloaded_ranks: PreloadedRanks
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    with preloaded_ranks(), Session(2) as session:
        session.serve(1)
        session.run(RECORDED)
        seconds = session.pull("seconds")
        (run,) = session.runs
        text = session.report(run).to_text()
    assert (run.info.name, run.info.size, run.info.state) == ("first try", 1, "done")
    assert run.info.meta["parameter_servers"] == 1
    assert [(row.epoch, row.whole) for row in run.training()[0]] == [(0, True), (1, True)]
    rows = run.rows(0)
    assert len(rows) == len(seconds) - 1 == 9
    took = rows["end"] - rows["begin"]
    # A step lasts at least as long as the coordinator's own measure of it, however busy the machine.
    assert (took >= np.asarray(seconds[1:]) - 1e-3).all()
    assert (rows["begin"][1:] >= rows["end"][:-1] - 1e-6).all()
    assert rows["samples"].tolist() == [16.0] * 9
    assert np.isnan(rows["input"]).all()
    assert np.isnan(rows["reduced"]).all()
    assert "bound" not in text
    assert f"step {ms(float(np.mean(took[1:])))} ·" in text
    assert "input not measured" in " ".join(text.split())
