"""Does every fault end as promised, how fast, and is everything still there afterwards?

Each drill of `tests/drills/catalog.py` is injected `--repeats` times, in random order, in a real
group; each of `tests/drills/kernels.py` in a notebook's kernel and a group of its own. Then 50
cells fail in a row, and what each rank holds is counted before and after. Noted are the seconds
from the fault to the end of the cell (from the press of Stop where there is one, else from the
cell's start), whether the next cell worked, and whether a canary variable had survived on every
rank. `--px` adds what plain ipyparallel does with the same cells, the same ranks and Horovod,
given `--patience` seconds each.

    python benchmarks/drills.py --repeats 20 --px
    python benchmarks/drills.py --only stop SIGKILL  # replace these in the day's file
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import _harness as harness
import ipyparallel
import numpy as np
from ipyparallel import error as ipp_error
from traitlets.config import Config

# Replaces this folder, in which this file would be imported instead of the folder of drills.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from drills import kernels
from drills.catalog import DRILLS, PREPARE, Comes, Drill
from drills.runner import Counts, DrillRunner, Result

from eai_notebook.cluster.mpi_environment import rank_environment

COMES: dict[str, Comes] = {drill.name: drill.comes for drill in (*DRILLS, *kernels.KERNEL_DRILLS)}
KEEPS = {drill.name for drill in DRILLS if drill.keeps} | {"browser closed mid-cell"}


def on_ranks(
    drills: list[Drill], size: int, repeats: int, seed: int
) -> tuple[dict[str, list[Result]], dict[str, list[Counts]]]:
    """Run every drill `repeats` times on a group of `size`, and fifty failing cells."""
    found: dict[str, list[Result]] = {drill.name: [] for drill in drills}
    todo = [drill for drill in drills for _ in range(repeats)]
    random.Random(seed).shuffle(todo)
    with DrillRunner(size) as runner:
        for number, drill in enumerate(todo, 1):
            result = runner.run(drill)
            found[drill.name].append(result)
            harness.say(f"{number}/{len(todo)} {drill.name}: {_words(result)}")
        return found, runner.failing_cells(50)


def on_kernels(
    drills: list[kernels.KernelDrill], size: int, repeats: int
) -> dict[str, list[Result]]:
    """Do to a notebook's kernel what a drill says, `repeats` times each."""
    found: dict[str, list[Result]] = {drill.name: [] for drill in drills}
    for number in range(1, repeats + 1):
        for drill in drills:
            result = kernels.run(drill, size)
            found[drill.name].append(result)
            harness.say(f"{number}/{repeats} {drill.name}: {_words(result)}")
    return found


def _words(result: Result) -> str:
    wrong = "" if result.usable and result.kept and not result.left else f", WRONG: {result}"
    return f"{result.came}, {result.seconds:.1f} s{wrong}"


def plain(drill: Drill, size: int, patience: float) -> dict[str, Any]:
    """Run `drill` once with ipyparallel alone, in a group of its own, as `%%px` would."""
    os.environ.update(rank_environment(size))
    config = Config()
    config.MPIEngineSetLauncher.mpi_args = ["--oversubscribe", "--bind-to", "none"]
    cluster = ipyparallel.Cluster(
        engines="mpi", n=size, config=config, load_profile=False, log_level=40
    )
    client = cluster.start_and_connect_sync()
    try:
        view = client[:]
        view.execute(PREPARE.replace("rank =", "collective.form(); rank ="), silent=False).get()
        begin = time.monotonic()
        running = view.execute(drill.code, silent=False)
        if drill.after is not None:
            time.sleep(drill.after)
            begin = time.monotonic()
            client.send_signal(signal.SIGINT, block=False)
        ended = _wait(running, patience)
        seconds = time.monotonic() - begin
        after = view.execute("total = collective.allreduce_numpy(np.ones(1))[0]", silent=False)
        usable = _wait(after, patience) and after.successful()
    except (ipp_error.RemoteError, ipp_error.CompositeError, ipyparallel.error.NoEnginesRegistered):
        return {"ended": True, "seconds": None, "next_cell_works": False}
    finally:
        client.close()
        cluster.stop_cluster_sync()
    return {"ended": ended, "seconds": round(seconds, 1), "next_cell_works": usable}


def _wait(running: Any, patience: float) -> bool:
    """Return whether a request has ended, well or not, within `patience` seconds."""
    running.wait(patience)
    return bool(running.ready())


def table(found: dict[str, list[Result]]) -> dict[str, Any]:
    """Return what came of each drill, in numbers."""
    rows = {}
    for name, results in found.items():
        seconds = [result.seconds for result in results]
        rows[name] = {
            "median_s": round(float(np.median(seconds)), 2),
            "worst_s": round(max(seconds), 2),
            "as_promised": sum(result.came == COMES[name] for result in results),
            "next_cell_works": sum(result.usable for result in results),
            "variables_kept": sum(result.kept for result in results),
            "processes_left": sum(result.left for result in results),
            "repeats": len(results),
        }
    return rows


def main() -> None:
    """Run the drills, write the result file, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--only", nargs="+", default=[""], help="those with such a name")
    parser.add_argument("--px", action="store_true", help="compare with plain ipyparallel")
    given = parser.parse_args()
    # Ignored where a shell starts this in the background, and then no Stop would be heard.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = "drills" if given.size == 2 else f"drills_{given.size}_ranks"
    details = harness.earlier(file) if any(given.only) else {}
    details["size"] = given.size
    rows: dict[str, Any] = details.setdefault("drills", {})
    chosen = [drill for drill in DRILLS if any(each in drill.name for each in given.only)]
    if chosen:
        found, held = on_ranks(chosen, given.size, given.repeats, given.seed)
        rows |= table(found)
        details["fifty_failing_cells"] = {
            when: [count._asdict() for count in counts] for when, counts in held.items()
        }
    in_kernels = [
        drill for drill in kernels.KERNEL_DRILLS if any(each in drill.name for each in given.only)
    ]
    rows |= table(on_kernels(in_kernels, given.size, given.repeats))

    def worst(comes: Comes) -> float:
        return float(max(row["worst_s"] for name, row in rows.items() if COMES[name] == comes))

    summary = {
        "drills": len(rows),
        "repeats": min(row["repeats"] for row in rows.values()),
        "hangs": sum(row["repeats"] - row["next_cell_works"] for row in rows.values()),
        "not_as_promised": sum(row["repeats"] - row["as_promised"] for row in rows.values()),
        "state_lost": sum(rows[name]["repeats"] - rows[name]["variables_kept"] for name in KEEPS),
        "worst_error_s": worst("error"),
        "worst_interrupt_s": worst("interrupt"),
        "worst_death_s": worst("death"),
        "worst_leave_s": worst("gone"),
        "orphans": sum(row["processes_left"] for row in rows.values()),
    }
    if given.px:
        details["plain_px"] = {
            drill.name: plain(drill, given.size, given.patience) for drill in DRILLS
        }
    harness.finish(file, summary, details)


if __name__ == "__main__":
    main()
