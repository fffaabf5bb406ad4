"""Does accuracy hold when ranks, and with them the batch, are added? And what if warm-up is left out?

A ResNet with ResNet-50's recipe (zero gamma, decay of kernels alone, smoothed labels, random views,
batch norm over each rank's own 32 samples) learns all procedural classes on 1, 2 and 4 ranks: 32
pictures a rank and step, the same pictures and the same number of epochs in all, so 4 ranks make
a quarter of the steps. The rate follows the batch (Goyal et al. 2017): from 0.1 in a straight line
to 6.4 x batch/256 in the first quarter of the epochs, then two steps down. Beside it, 4 ranks with
that rate at once. Top-1 is of held-out pictures.

The model is `small_resnet` at 32 x 32: ResNet-50 at its own size would take days on two cores. Its best
rates are larger than ResNet-50's, so the figures say that the recipe holds, not which rate
ResNet-50 wants. Seeds draw other pictures, weights and orders; differences are taken within one.

Every figure is kept in build/image_accuracy when it is there, so that a call goes on where one
before it was stopped; the result is over the seeds of which all four trainings are there.

    python benchmarks/image_accuracy.py --seeds 0
    python benchmarks/image_accuracy.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.session import Session

PLACE = Path(__file__).resolve().parent.parent / "build" / "image_accuracy"
SIZES, MOST, SEEDS = (1, 2, 4), 4, 3
WITHIN, VISIBLE = 0.01, 0.02
CLASSES, HELD_OUT = 32, 8192

TRAINING = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook.datasets.shapes import PlantedPictures

BATCH, PARTS, BASE = 32, 4, 6.4

def data_of(planted, samples):
    # Parts 1 to 4 whatever the number of ranks: all trainings see the same pictures.
    mine = [planted.draw(part, samples // PARTS)
            for part in range(1 + eai.rank(), 1 + PARTS, eai.size())]
    images, labels = (np.concatenate([getattr(part, name) for part in mine])
                      for name in ("images", "labels"))
    seed = 100 * planted.seed + eai.rank()
    views = eai.models.RandomView(32, 32, area=(0.7, 1), seed=seed)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels), seed=seed)
    data = data.batch(BATCH, drop_remainder=True)
    return data.map(lambda x, y: (views(x, training=True), y)).prefetch(2)

def schedule(samples, epochs, warm_up):
    steps = eai.schedules.steps_per_epoch(samples, BATCH * eai.size())
    peak = eai.schedules.scale_linearly(BASE, BATCH * eai.size())
    begin = f"0.1;{epochs / 4}" if warm_up else f"{peak};0"
    text = f"{begin};{peak};{epochs * 5 / 8};{peak / 10};{epochs * 7 / 8};{peak / 100}"
    return text, eai.schedules.parse(text, steps_per_epoch=steps)

def train(seed, classes, samples, epochs, held_out, warm_up):
    keras.utils.set_random_seed(seed)
    planted = PlantedPictures(classes=classes, size=32, seed=seed)
    text, rate = schedule(samples, epochs, warm_up)
    model = eai.models.small_resnet(classes)
    model.compile(
        eai.DistributedOptimizer(keras.optimizers.SGD(rate, momentum=0.9)),
        eai.models.crossentropy(label_smoothing=0.1),
        metrics=eai.models.accuracies())
    history = eai.fit(model, data_of(planted, samples), epochs=epochs, verbose=0)
    if eai.rank() != 0:
        return None
    unseen = planted.draw(0, held_out)
    score = model.evaluate(
        unseen.images, unseen.labels, batch_size=256, verbose=0, return_dict=True)
    return {"top1": float(score["top1"]), "top5": float(score["top5"]), "schedule": text,
            "loss": history.history["loss"], "train_top1": history.history["top1"]}
"""


def kept(seed: int, asked: dict[str, int]) -> Path:
    """Return where a seed's figures are kept."""
    return PLACE / f"seed-{seed}-{asked['samples']}-{asked['epochs']}.json"


def known(seed: int, asked: dict[str, int]) -> dict[str, Any]:
    """Return the figures of a seed that are there already."""
    path = kept(seed, asked)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def train(size: int, seeds: list[int], asked: dict[str, int]) -> None:
    """Train what is missing on `size` ranks, and keep each figure."""
    kinds = {f"{size}": True} | ({f"{size}, no warm-up": False} if size == MOST else {})
    missing = [
        (seed, name)
        for seed, name in itertools.product(seeds, kinds)
        if name not in known(seed, asked)
    ]
    if not missing:
        return
    with Session(size) as session:
        session.run(TRAINING)
        for seed, name in missing:
            given = asked | {"seed": seed, "classes": CLASSES, "held_out": HELD_OUT}
            words = ", ".join(f"{key}={value}" for key, value in given.items())
            session.run(f"result = train({words}, warm_up={kinds[name]})")
            found = session.pull("result", 0)
            kept(seed, asked).write_text(json.dumps(known(seed, asked) | {name: found}))
            harness.say(f"seed {seed}, ranks: {name}: top-1 {found['top1']:.4f}")


def summarize(seeds: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the means over the seeds, and what is behind them.

    `largest_gap` is between the means of two numbers of ranks, the worst pair.
    """
    top1 = {size: np.array([seed[f"{size}"]["top1"] for seed in seeds]) for size in SIZES}
    without = np.array([seed[f"{MOST}, no warm-up"]["top1"] for seed in seeds])
    means = {size: float(values.mean()) for size, values in top1.items()}
    summary: dict[str, Any] = {f"top1_{size}": round(mean, 4) for size, mean in means.items()}
    summary["largest_gap"] = round(max(means.values()) - min(means.values()), 4)
    summary["no_warmup_top1"] = round(float(without.mean()), 4)
    summary["seeds"] = len(seeds)
    details = {
        "largest_gap_of_a_seed": float(
            np.ptp(np.array([top1[size] for size in SIZES]), axis=0).max()
        ),
        "fall_without_warm_up": (top1[MOST] - without).tolist(),
        "standard_error_of_one_top1": round(
            float((means[MOST] * (1 - means[MOST]) / HELD_OUT) ** 0.5), 5
        ),
    }
    return summary, details


def main() -> None:
    """Do what is asked for and not there yet; sum up the seeds that are whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--samples", type=int, default=16_384, help="an epoch, of all ranks")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    asked = {"samples": given.samples, "epochs": given.epochs}
    for size in given.sizes:
        train(size, given.seeds, asked)
    names = [*(f"{size}" for size in SIZES), f"{MOST}, no warm-up"]
    found = [
        {"seed": seed} | known(seed, asked)
        for seed in range(100)
        if all(name in known(seed, asked) for name in names)
    ]
    if not found:
        harness.say("no seed has all of its trainings yet")
        return
    summary, details = summarize(found)
    harness.finish("image_accuracy", summary, {**details, **asked, "seeds": found})
    fell = summary[f"top1_{MOST}"] - summary["no_warmup_top1"] >= VISIBLE
    sys.exit(0 if summary["largest_gap"] <= WITHIN and fell else 1)


if __name__ == "__main__":
    main()
