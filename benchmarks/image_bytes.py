"""What does a full-size step of the four image models send, and what does that cost?

Two ranks on one machine train ResNet-50, ResNet-101, Inception-v3 and VGG16 on pictures of the
size the papers have (299 x 299 for Inception-v3, else 224 x 224) and 1000 classes, as the recipe
has them. What the ledger counts as sent must be 4 bytes for each trainable parameter: on two ranks
a ring sends 2 (N-1)/N = 1 times the gradient. (That the ledger counts what links carry is checked
by `benchmarks/wire.py`.)

Pictures are noise and batches are small: seconds are those of two ranks that share this machine's
cores and memory, and say which model exchanges much for what it computes, not how quick a GPU is.
The first step compiles and is left out. Each model has a group of its own, one after the other,
and a file in build/image_bytes, so that a call continues where an earlier one stopped.

    python benchmarks/image_bytes.py --only vgg16
    python benchmarks/image_bytes.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import _harness as harness

from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.report import merge_record
from eai_notebook.session import Session

PLACE = Path(__file__).resolve().parent.parent / "build" / "image_bytes"
MODELS = {"resnet50": 224, "resnet101": 224, "inception_v3": 299, "vgg16": 224}
RANKS, CLASSES = 2, 1000

TRAINING = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

def train(name, side, classes, batch, steps):
    keras.utils.set_random_seed(0)
    model = getattr(eai.models, name)(classes, image=(side, side, 3))
    model.compile(
        eai.DistributedOptimizer(keras.optimizers.SGD(0.01, momentum=0.9)),
        eai.models.crossentropy(label_smoothing=0.1))
    rng = np.random.default_rng(eai.rank())
    pictures = rng.integers(0, 256, (batch, side, side, 3)).astype("uint8")
    labels = rng.integers(0, classes, batch)
    data = tf.data.Dataset.from_tensors((pictures, labels)).repeat(steps)
    history = eai.fit(model, data, epochs=1, verbose=0)
    return {
        "parameters": model.count_params(),
        "trainable": sum(int(np.prod(each.shape)) for each in model.trainable_variables),
        "loss": history.history["loss"][-1],
    }
"""


def measure(name: str, batch: int, steps: int) -> dict[str, Any]:
    """Return what `steps` steps after the first of one model took, and what they sent."""
    with Session(RANKS) as session:
        session.run(TRAINING)
        call = f"result = train({name!r}, {MODELS[name]}, {CLASSES}, {batch}, {steps + 1})"
        session.run(call, patience=600)
        found = session.pull("result", 0)
        ledger = merge_record(session.runs[-1]).measured()
    by_part = dict(zip(PARTS, mean(mean(ledger.parts, axis=0), axis=0).tolist(), strict=True))
    step, sent = float(mean(ledger.wall)), float(mean(ledger.bytes))
    exposed = by_part["transfer"]
    return {
        "parameters": found["parameters"],
        "trainable_parameters": found["trainable"],
        "bytes_expected": 4 * found["trainable"],
        "bytes_per_step": sent,
        "bytes_equal": bool((ledger.bytes == 4 * found["trainable"]).all()),
        "picture": MODELS[name],
        "batch_per_rank": batch,
        "steps": len(ledger.steps),
        "step_s": round(step, 3),
        "exposed_share": round(exposed / step, 4),
        "wait_peer_share": round(by_part["wait_peer"] / step, 4),
        "parts_s": {part: round(seconds, 4) for part, seconds in by_part.items()},
        "hidden_s": round(float(mean(ledger.hidden)), 4),
        "loss": round(found["loss"], 4),
    }


def main() -> None:
    """Measure what is asked for and not there yet; sum up when all four are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=MODELS, nargs="*", default=list(MODELS))
    parser.add_argument("--batch", type=int, default=4, help="of a rank")
    parser.add_argument("--steps", type=int, default=4, help="after the first, which compiles")
    given = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    kept = {name: PLACE / f"{name}-{given.batch}-{given.steps}.json" for name in MODELS}
    for name in given.only:
        if not kept[name].exists():
            found = measure(name, given.batch, given.steps)
            kept[name].write_text(json.dumps(found))
            harness.say(f"{name}: {found['step_s']} s a step, {found['bytes_per_step']:,.0f} bytes")
    if not all(path.exists() for path in kept.values()):
        harness.say("the result is written once all four models have been measured")
        return
    models = {name: json.loads(path.read_text()) for name, path in kept.items()}
    shown = ("trainable_parameters", "bytes_expected", "bytes_per_step", "step_s", "exposed_share")
    summary: dict[str, Any] = {
        name: {key: found[key] for key in shown} for name, found in models.items()
    }
    summary["all_equal"] = all(found["bytes_equal"] for found in models.values())
    harness.finish("image_bytes", summary, {"ranks": RANKS, "classes": CLASSES, "models": models})
    sys.exit(0 if summary["all_equal"] else 1)


if __name__ == "__main__":
    main()
