"""Everything that saves, on all ranks and on one, each read back at once on every rank.

The model has `LAYERS` layers, and the ranks save it together in `ROUNDS` rounds.
"""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import eai_notebook as eai
from eai_notebook import collective

collective.ensure_formed()
rank = eai.rank()
x = np.random.default_rng(rank).normal(size=(64, 8)).astype("f4")
y = x.sum(1, keepdims=True)
inputs = keras.Input((8,))
hidden = inputs
for _ in range(LAYERS):  # type: ignore[name-defined]  # noqa: F821
    hidden = keras.layers.Dense(64, "relu")(hidden)
model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
model.compile("adam", "mse")
eai.fit(model, (x, y), verbose=0)
bad: list[str] = []
made: list[str] = []


def attempt(name: str, work: Any) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 -- the test shows them
        bad.append(f"{name}: {type(error).__name__}: {error}"[:200])


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.is_file())


def twice() -> None:
    model.save("m.keras")
    loaded = keras.models.load_model("m.keras")
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def weights() -> None:
    model.save_weights("m.weights.h5")
    model.load_weights("m.weights.h5")


def by_function() -> None:
    keras.saving.save_model(model, "f.keras")
    keras.saving.load_model("f.keras")


def exported() -> None:
    model.export("folder", verbose=False)
    assert (Path("folder") / "saved_model.pb").exists()


for number in range(ROUNDS):  # type: ignore[name-defined]  # noqa: F821
    if rank == number % 2:
        time.sleep(0.05)
    attempt("save", twice)
    attempt("weights", weights)
attempt("function", by_function)
attempt("export", exported)

# On one rank alone: nobody waits for the others.
if rank == 0:
    for number in range(3):
        model.save(f"alone{number}.keras")
if rank == 1:
    model.save("other.keras")
collective.barrier()
attempt("alone", lambda: keras.models.load_model("alone2.keras"))
attempt("other", lambda: keras.models.load_model("other.keras"))

# Callbacks of a plain fit, on all ranks; then once more, from the beginning.
for _ in range(2):
    model.compile(eai.DistributedOptimizer("sgd"), "mse")
    callbacks = [
        keras.callbacks.ModelCheckpoint("best.keras"),
        keras.callbacks.BackupAndRestore("backup"),
    ]
    epochs = model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks).epoch
    attempt("checkpoint", lambda: keras.models.load_model("best.keras"))
# Each rank sees another best epoch; rank 0's counts.
best = keras.callbacks.ModelCheckpoint(
    "chosen.weights.h5", "chosen", save_best_only=True, save_weights_only=True, mode="min"
)
best.set_model(model)
before = model.get_weights()
for epoch in range(2):
    model.set_weights([each + epoch for each in before])
    best.on_epoch_end(epoch, {"chosen": float(epoch if rank == 0 else -epoch)})
collective.barrier()
model.load_weights("chosen.weights.h5")
chosen = bool(np.allclose(model.get_weights()[0], before[0]))

try:
    model.save("no/such/folder/m.keras")
    failed = ""
except Exception as error:  # noqa: BLE001 -- Keras decides which
    failed = type(error).__name__
collective.barrier()
report(  # type: ignore[name-defined]  # noqa: F821
    {
        "bad": bad,
        "files": files(),
        "epochs": epochs,
        "failed": failed,
        "chosen": chosen,
    }
)
