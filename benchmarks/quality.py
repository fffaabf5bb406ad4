"""Does Wide & Deep find what its parts alone cannot, and does the number of ranks matter?

Click logs by the recipe ``rules`` (``eai_notebook.datasets.click_recipes``): some combinations have a will of
their own, others follow a hidden rule. For each seed, other rules, rows and initial weights: a
logistic regression without and with crosses, the deep part, and Wide & Deep on 1 rank, and Wide &
Deep (``--all``: each of them) on 4 with the same global batch, scored on held-out rows. Beside them the AUC of the planted
probabilities: no model can do better on average.

Every figure is kept in build/quality when it is there, so that a call goes on where one before it
was stopped; the result is written by the call that finds five seeds or more.

    python benchmarks/quality.py --seeds 0
    python benchmarks/quality.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from scipy import stats

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.session import Session

PLACE = Path(__file__).resolve().parent.parent / "build" / "quality"
ROWS, FILES, FEWEST = 640_000, 16, 5
MODELS = ("lr", "wide", "deep", "wide_deep")
NEAR_BAYES, SAME = 0.005, 0.0005

TRAINING = """
import keras, numpy as np
import eai_notebook as eai
from eai_notebook.datasets.click_recipes import RULES

GLOBAL_BATCH, EPOCHS = 1024, 3
SCHEMA, CROSS_BUCKETS = RULES.schema, 50_000
SIZES = {"embedding_dim": 4, "hidden": (32, 16)}
models = eai.models

def ftrl():
    return keras.optimizers.Ftrl(0.1, initial_accumulator_value=1e-8)

def adam(steps):
    return keras.optimizers.Adam(
        eai.schedules.cosine(0.01, epochs=EPOCHS, steps_per_epoch=steps, warmup_epochs=0.1))

KINDS = {
    "lr": (lambda: models.logistic_regression(SCHEMA, crosses=()), lambda steps: ftrl()),
    "wide": (lambda: models.logistic_regression(SCHEMA, cross_buckets=CROSS_BUCKETS),
             lambda steps: ftrl()),
    "deep": (lambda: models.deep(SCHEMA, **SIZES), adam),
    "wide_deep": (lambda: models.wide_deep(SCHEMA, cross_buckets=CROSS_BUCKETS, **SIZES),
                  lambda steps: eai.RoutedOptimizer({"wide/*": ftrl()}, default=adam(steps))),
}

def train(kind, folder, seed):
    keras.utils.set_random_seed(seed)
    make_model, make_optimizer = KINDS[kind]
    train = eai.io.criteo(f"{folder}/train-*.tsv", batch_size=GLOBAL_BATCH // eai.size(),
                          schema=SCHEMA, seed=seed)
    model = make_model()
    model.compile(eai.DistributedOptimizer(make_optimizer(train.steps_per_epoch)),
                  "binary_crossentropy")
    history = eai.fit(model, train, epochs=EPOCHS, verbose=0)
    if eai.rank() != 0:
        return None
    held_out = eai.io.criteo(f"{folder}/test-*.tsv", batch_size=10_000, shuffle=False,
                             shard=False, schema=SCHEMA)
    labels = np.concatenate([label for _, label in held_out])
    return {"auc": models.auc(labels, model.predict(held_out, verbose=0)),
            "loss": history.history["loss"]}
"""


def kept(seed: int, rows: int) -> Path:
    """Return where a seed's figures are kept."""
    return PLACE / f"seed-{seed}-{rows}.json"


def known(seed: int, rows: int) -> dict[str, Any]:
    """Return the figures of a seed that are there already."""
    path = kept(seed, rows)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def train(size: int, seeds: list[int], rows: int, kinds: tuple[str, ...]) -> None:
    """Train what is missing of `kinds` on `size` ranks, and keep each figure."""
    missing = [
        (seed, kind)
        for seed in seeds
        for kind in kinds
        if f"{kind}@{size}" not in known(seed, rows)
    ]
    if not missing:
        return
    with Session(size) as session:
        session.run(TRAINING)
        for seed, kind in missing:
            folder = PLACE / f"data-{seed}-{rows}"
            truth = criteo(folder, rows, FILES, seed, recipe="rules")
            session.push(folder=str(folder), seed=seed, kind=kind)
            session.run("result = train(kind, folder, seed)")
            found = session.pull("result", 0)
            about = {"seed": seed, "rows": rows, "bayes": truth.bayes_auc_test}
            figures = known(seed, rows) | about | {f"{kind}@{size}": found}
            kept(seed, rows).write_text(json.dumps(figures))
            harness.say(
                f"seed {seed}, {size} ranks, {kind}: AUC {found['auc']:.4f} "
                f"(best {truth.bayes_auc_test:.4f})"
            )


def interval(values: np.ndarray) -> list[float]:
    """Return the mean of a few seeds and its 95 % interval (Student's t)."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return [round(each, 5) for each in (mean, mean - half, mean + half)]


def summarize(seeds: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the summary and the intervals behind it."""
    one = {kind: np.array([seed[f"{kind}@1"]["auc"] for seed in seeds]) for kind in MODELS}
    bayes = np.array([seed["bayes"] for seed in seeds])
    gaps = {kind: differences(seeds, kind) for kind in MODELS}
    details = {
        "auc, 1 rank": {kind: interval(one[kind]) for kind in MODELS},
        # Seeds differ in how predictable their clicks are: differences are taken within one.
        "wide_deep above wide": interval(one["wide_deep"] - one["wide"]),
        "wide_deep above deep": interval(one["wide_deep"] - one["deep"]),
        "bayes above wide_deep": interval(bayes - one["wide_deep"]),
        "4 ranks above 1, by seed": {kind: gap.tolist() for kind, gap in gaps.items()},
    }
    summary: dict[str, Any] = {kind: round(float(one[kind].mean()), 5) for kind in MODELS}
    summary["bayes"] = round(float(bayes.mean()), 5)
    gap = gaps["wide_deep"]
    summary["rank_gap"] = round(float(gap.mean()), 5) if len(gap) else None
    summary |= {"seeds": len(seeds), "rank_gap_seeds": len(gap)}
    return summary, details


def differences(seeds: list[dict[str, Any]], kind: str) -> np.ndarray:
    """Return by how much 4 ranks are above 1, of the seeds that have both."""
    both = [seed for seed in seeds if f"{kind}@4" in seed]
    return np.array([seed[f"{kind}@4"]["auc"] - seed[f"{kind}@1"]["auc"] for seed in both])


def main() -> None:
    """Do what is asked for and not there yet; sum up when there are enough seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(FEWEST)))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--all", action="store_true", help="every model on 4 ranks, too")
    arguments = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    for size in arguments.sizes:
        kinds = MODELS if size == 1 or arguments.all else ("wide_deep",)
        train(size, arguments.seeds, arguments.rows, kinds)
    found = [
        json.loads(path.read_text()) for path in sorted(PLACE.glob(f"seed-*-{arguments.rows}.json"))
    ]
    seeds = [each for each in found if all(f"{kind}@1" in each for kind in MODELS)]
    if len(seeds) < FEWEST:
        harness.say(f"{len(seeds)} whole seeds so far; {FEWEST} make a result")
        return
    summary, details = summarize(seeds)
    harness.finish("quality", summary, {**details, "rows": arguments.rows, "seeds": seeds})
    ahead = min(details["wide_deep above wide"][1], details["wide_deep above deep"][1]) > 0
    near = summary["bayes"] - summary["wide_deep"] <= NEAR_BAYES
    same = summary["rank_gap"] is not None and abs(summary["rank_gap"]) <= SAME
    sys.exit(0 if ahead and near and same else 1)


if __name__ == "__main__":
    main()
