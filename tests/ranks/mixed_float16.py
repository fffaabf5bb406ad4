"""A loss scale in every place, and one batch whose scaled gradients overflow on one rank only."""

from typing import Any

import keras
import numpy as np

import eai_notebook as eai
from eai_notebook import collective

collective.ensure_formed()
keras.mixed_precision.set_global_policy("mixed_float16")
o = keras.optimizers
x, y = np.ones((32, 4), "f4"), np.ones((32, 1), "f4")
if eai.rank() == 1:
    y[:8] = 1000.0

OPTIMIZERS: dict[str, Any] = {
    "model.fit": lambda: eai.DistributedOptimizer(o.SGD(0.01)),
    "inside": lambda: eai.DistributedOptimizer(o.LossScaleOptimizer(o.SGD(0.01))),
    "outside": lambda: o.LossScaleOptimizer(eai.DistributedOptimizer(o.SGD(0.01))),
    "accumulated": lambda: eai.DistributedOptimizer(o.SGD(0.01, gradient_accumulation_steps=2)),
    "callbacks": lambda: eai.DistributedOptimizer(o.SGD(0.01)),
    "eai.fit": lambda: o.SGD(0.01),
}
found = {}
for how, make in OPTIMIZERS.items():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(make(), "mse")
    settings: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 3}
    if how == "eai.fit":
        eai.fit(model, (x, y), **settings)
    elif how == "callbacks":
        model.fit(x, y, callbacks=eai.callbacks(), **settings)
    else:
        model.fit(x, y, **settings)
    weights = [each.tolist() for each in model.get_weights()]
    found[how] = {"weights": weights, "updates": int(model.optimizer.iterations)}
report(found)  # type: ignore[name-defined]  # noqa: F821
