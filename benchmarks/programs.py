"""Small programs as Keras's guides write them, on one process and on two ranks.

Each file in ``programs/`` is a plain Keras program. Lines that have to change for several ranks
say at their end what they become, after ``# eai:``. What is compared are the weights of all of
its models: with those of one process, unless the program draws random numbers (``RANDOM``); then
with each other, and the loss must have fallen.

    python benchmarks/programs.py [name ...]
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from preloaded_python import PreloadedPython  # noqa: E402 -- the tests are no package of ours

FOLDER = HERE / "programs"
MARK = re.compile(r"^(\s*)\S.*# eai: (.*)$")
CLOSE = 1e-5
LIMIT_S = 240

PRELUDE = """
import keras as _keras
_keras.utils.set_random_seed(SEED)
RANDOM = False
"""
REPORT = """
import json as _json, os as _os, pathlib as _pathlib
_models = globals().get("models") or [model]
_result = {
    "random": RANDOM,
    "losses": list(history.history.values())[0] if "history" in globals() else None,
    "weights": [[float(n) for n in np.asarray(w, "float64").ravel()]
                for m in _models for w in m.trainable_weights],
}
_rank = _os.environ.get("OMPI_COMM_WORLD_RANK", "0")
(_pathlib.Path(_os.environ["PROGRAM_RESULT"]) / f"{_rank}.json").write_text(_json.dumps(_result))
"""


def main(names: list[str]) -> None:
    """Run the programs called `names`, or all, and print what came of them."""
    paths = sorted(FOLDER.glob("*.py"))
    chosen = [path for path in paths if not names or path.stem in names]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        python = PreloadedPython(Path(folder), environment(2))
        for path in chosen:
            row = compare(path, python)
            rows.append(row)
            print(json.dumps(row), flush=True)
        python.close()
    known = [row["max_rel_diff"] for row in rows if row["max_rel_diff"] is not None]
    total = {
        "programs": len(rows),
        "right": sum(row["right"] for row in rows),
        "changed_lines_median": statistics.median(row["changed_lines"] for row in rows),
        "max_rel_diff": max(known, default=None),
    }
    if names:
        print(json.dumps(total))
    else:
        harness.finish("programs", total, {"programs": rows})


def compare(path: Path, python: PreloadedPython) -> dict[str, Any]:
    """Return how the program at `path` did on two ranks, next to one process."""
    source = path.read_text()
    ours, changed = distributed(source)
    row: dict[str, Any] = {"program": path.stem, "changed_lines": changed, "max_rel_diff": None}
    try:
        ranks = run(ours, 2, python)
        (alone,) = run(source, 1, python)
    except RuntimeError as error:
        return {**row, "right": False, "error": str(error)}
    same = ranks[0]["weights"] == ranks[1]["weights"]
    if ranks[0]["random"]:
        losses = ranks[0]["losses"]
        return {**row, "right": same and losses is not None and losses[-1] < losses[0]}
    row["max_rel_diff"] = difference(ranks[0]["weights"], alone["weights"])
    return {**row, "right": same and row["max_rel_diff"] < CLOSE}


def distributed(source: str) -> tuple[str, int]:
    """Return the program for several ranks, and how many lines of it are other ones."""
    lines, changed = [], 0
    for line in source.splitlines():
        found = MARK.match(line)
        lines.append(f"{found[1]}{found[2]}" if found else line)
        changed += found is not None
    return "\n".join(["import eai_notebook as eai", *lines]), changed + 1


def difference(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """Return the largest difference of any weight, relative to the largest of its variable."""
    return max(
        float(np.abs(np.subtract(a, b)).max() / max(np.abs(b).max(), 1e-3))
        for a, b in zip(ours, theirs, strict=True)
    )


def environment(ranks: int) -> dict[str, str]:
    """Return the environment of a program on so many ranks."""
    own = {"PYTHONPATH": str(HERE.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **rank_environment(ranks), **own}


def run(source: str, ranks: int, python: PreloadedPython) -> list[dict[str, Any]]:
    """Run a program on so many ranks and return their reports.

    Raises:
        RuntimeError: It failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Ranks begin with other weights: rank 0's, which are the single process's, must count.
        seed = "int(__import__('os').environ.get('OMPI_COMM_WORLD_RANK', 0)) + 1"
        script = Path(folder) / "program.py"
        script.write_text(f"{PRELUDE.replace('SEED', seed)}{source}\n{REPORT}")
        command = python.command(script)
        if ranks > 1:
            start = [find_mpirun(), "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
            command = [*start, *command]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**environment(ranks), "PROGRAM_RESULT": folder},
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"not over after {LIMIT_S} s") from error
        if done.returncode:
            raise RuntimeError(done.stderr[-1500:])
        files = [Path(folder) / f"{rank}.json" for rank in range(ranks)]
        return [json.loads(file.read_text()) for file in files]


if __name__ == "__main__":
    main(sys.argv[1:])
