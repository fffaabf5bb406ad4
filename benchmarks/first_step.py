"""How long does the quickstart take from `%eai up` to its first training step?

The cells of `notebooks/01_quickstart.ipynb` that start the ranks, set up, and train, up to the end of
the first step, on this tree and on an earlier revision, in turns and in random order. Each runs in a
process of its own, from a checkout of its own, on the same files. The earlier revision also runs
twice in each round, against itself: what the noise does.

- `ratio`: this tree's time by the earlier revision's, of medians; `ci95` its interval;
- `up_s`, `set_up_s`, `step_s`: this tree's medians, from one mark to the next: all ranks are up
  with TensorFlow loaded, the set-up cell is done, the first step has ended on rank 0;
- `control`: the earlier revision against itself.

    python benchmarks/first_step.py --against 468e33e
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = '''
import json, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "eai_notebook")
marks = [time.time()]
shell.run_line_magic("eai", f"up -n {RANKS}")
shell.run_cell_magic("distributed", "", "pass")
marks.append(time.time())
shell.run_cell_magic("distributed", "--setup", """
import os
import keras
import eai_notebook as eai
train = eai.io.criteo(f"{os.environ['EAI_DEMO_DATA']}/train-*.tsv", batch_size=2048)
model = eai.models.wide_deep(eai.io.CRITEO)
""")
marks.append(time.time())
shell.run_cell_magic("distributed", "", """
import time
class First(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            globals()["first"] = time.time()
model.compile(
    optimizer=eai.DistributedOptimizer(keras.optimizers.Adam(5e-3)),
    loss="binary_crossentropy",
    metrics=["auc"],
)
history = eai.fit(model, train, steps_per_epoch=2, verbose=0, callbacks=[First()])
""")
session = shell.find_line_magic("eai").__self__.session
marks.append(session.pull("first", 0))
shell.run_line_magic("eai", "down")
print("RESULT" + json.dumps(marks))
'''


def run(tree: Path, ranks: int, folder: Path) -> list[float]:
    """Run the program on the package in `tree`; return the seconds from mark to mark."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "EAI_DEMO_DATA": str(folder / "data"),
        "EAI_RUNS": str(folder / "runs"),
    }
    program = PROGRAM.replace("{RANKS}", str(ranks))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "RESULT" not in done.stdout:
        raise SystemExit(f"the program failed:\n{done.stdout}\n{done.stderr}")
    marks = json.loads(done.stdout.rpartition("RESULT")[2])
    return [float(step) for step in np.diff(marks)]


def measure(trees: dict[str, Path], ranks: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return the seconds of each part of each run, by tree."""
    rng = random.Random(0)
    found: dict[str, list[list[float]]] = {name: [] for name in trees}
    for number in range(rounds):
        order = list(trees)
        rng.shuffle(order)
        for name in order:
            found[name].append(run(trees[name], ranks, folder))
            harness.say(f"{number + 1}/{rounds} {name}: {np.round(found[name][-1], 2).tolist()} s")
    return found


def main() -> None:
    """Measure, write the result file, print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", required=True, metavar="REVISION", help="the earlier one")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        earlier = folder / "earlier"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(earlier), given.against], check=True)
        try:
            from eai_notebook.datasets.click_logs import criteo

            criteo(folder / "data", rows=40_000, files=2)
            trees = {"this": ROOT, "earlier": earlier, "earlier again": earlier}
            run(ROOT, given.ranks, folder)  # so that files are in the page cache, compiled
            run(earlier, given.ranks, folder)
            found = measure(trees, given.ranks, given.rounds, folder)
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)
    whole = {name: np.array(rows).sum(axis=1) for name, rows in found.items()}
    up, set_up, step = np.median(found["this"], axis=0)
    summary = {
        **harness.paired_ratio(whole["this"], whole["earlier"]),
        "this_s": round(float(np.median(whole["this"])), 2),
        "earlier_s": round(float(np.median(whole["earlier"])), 2),
        "up_s": round(up, 2),
        "set_up_s": round(set_up, 2),
        "step_s": round(step, 2),
        "control": harness.paired_ratio(whole["earlier again"], whole["earlier"])["ratio"],
    }
    details = {"against": given.against, "ranks": given.ranks, "seconds": found}
    harness.finish("first_step", summary, details)


if __name__ == "__main__":
    main()
