"""A table of 250 million numbers trained on four ranks, saved, and loaded on two and on one.

31.25 million rows of 8 numbers, 1 GB, spread over the ranks by `eai.ShardedEmbedding`, in a
model that is trained with SGD by `eai.fit` with a checkpoint. Every rank reads from the system
how much its memory grew from before the table was made to its peak, training and saving
included: a rank that held the whole table at any time would have grown by 1000 MB or more.
Then two ranks, and one, go on from the checkpoint. A sum over every bit of the table, which
does not depend on where rows are, must come out the same.

    python benchmarks/sharded_table.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
from _table_rank import WIDTH

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment

HERE = Path(__file__).resolve()


def run(ranks: int, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train on `ranks` ranks, or load if all steps are done; return each rank's report."""
    out = folder / f"reports-{ranks}"
    out.mkdir()
    asked = {**vars(arguments), "folder": str(folder / "checkpoints"), "out": str(out)}
    command = [find_mpirun(), "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
    command += [sys.executable, str(HERE.with_name("_table_rank.py")), json.dumps(asked)]
    environment = {**os.environ, **rank_environment(ranks), "PYTHONPATH": str(HERE.parent.parent)}
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    reports = [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]
    harness.say(f"{ranks} ranks: {reports}")
    return reports


def main() -> None:
    """Train on four ranks, go on with two and with one, and say how much memory each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=31_250_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2048)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        four = run(4, arguments, Path(scratch))
        written = sum(file.stat().st_size for file in Path(scratch).rglob("shard-*"))
        others = {ranks: run(ranks, arguments, Path(scratch)) for ranks in (2, 1)}
    parts = {f"on {ranks}": reports for ranks, reports in others.items()}
    digests = {each["digest"] for reports in (four, *others.values()) for each in reports}
    summary = {
        "parameters": arguments.rows * WIDTH,
        "largest_part": max(each["numbers_here"] for each in four),
        "table_mb": arguments.rows * WIDTH * 4 / 1e6,
        "peak_growth_mb": max(each["grown_mb"] for each in four),
        "mb_a_step_sent": round(max(each["bytes_a_step"] for each in four) / 1e6, 3),
        "step_s": round(max(each["step_s"] for each in four), 3),
        "written_mb": round(written / 1e6, 1),
        "peak_growth_mb_on_2": max(each["grown_mb"] for each in others[2]),
        "same_on_4_2_1": len(digests) == 1,
        "trained": min(each["changed_of_touched"] for each in four) == 1.0,
    }
    harness.finish("sharded_table", summary, {"asked": vars(arguments), "on 4": four, **parts})
    held = summary["peak_growth_mb"] < summary["table_mb"]
    sys.exit(0 if held and summary["same_on_4_2_1"] and summary["trained"] else 1)


if __name__ == "__main__":
    main()
