"""What fault tolerance and virtual ranks cost a training that nothing disturbs, and what a restart takes.

All run on ranks of this machine. Settings take turns; the first one is run twice in each turn, and the ratio of
the two is the control: what the benchmark cannot distinguish.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import _harness as harness
import numpy as np
from _elastic_runs import path_of_ranks, read_lines
from _elastic_schedules import Schedule

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment

HERE: Final = Path(__file__).resolve().parent
RANKS: Final = 2
BATCH: Final = 256
"""Rows of a step, over all ranks."""
STEPS: Final = 220
TOLERANT: Final = ("--with-ft", "ulfm")
SETTINGS: Final[dict[str, tuple[tuple[str, ...], bool, int]]] = {
    "elastic": ((), True, RANKS),
    "elastic, with fault tolerance": (TOLERANT, True, RANKS),
    "elastic, the same again": ((), True, RANKS),
    "elastic, with fault tolerance, V = 2P": (TOLERANT, True, 2 * RANKS),
    "elastic, with fault tolerance, V = 4P": (TOLERANT, True, 4 * RANKS),
    "not elastic": ((), False, RANKS),
    "not elastic, with fault tolerance": (TOLERANT, False, RANKS),
}
"""Arguments of mpirun, whether the training is elastic, and its virtual ranks."""
KILL_AT: Final = 17
EVERY: Final = 5
"""Steps between two checkpoints of a run that is started again."""


def cost(known: dict[str, list[float]]) -> dict[str, list[float]]:
    """Take a turn of all settings; return the seconds of a step by setting, after those `known`."""
    found = {name: list(known.get(name, [])) for name in SETTINGS}
    for name, (words, elastic, virtual) in SETTINGS.items():
        asked = {"elastic": elastic, "virtual": virtual, "steps": STEPS}
        asked["batch"] = BATCH // virtual
        folder = Path(tempfile.mkdtemp(prefix="eai-cost-"))
        command = [find_mpirun(), *words, "-n", str(RANKS), "--oversubscribe"]
        rank = [sys.executable, str(HERE / "_elastic_cost_rank.py"), json.dumps(asked)]
        _run([*command, "--bind-to", "none", *rank, str(folder)], RANKS, folder)
        found[name].append(json.loads((folder / "found.json").read_text())["median"])
        harness.say(f"{name}: {1e3 * found[name][-1]:.2f} ms a step")
    return found


def summary_of_cost(found: dict[str, list[float]]) -> dict[str, Any]:
    """Return throughputs as shares of that without fault tolerance, turn by turn."""
    base, tolerant = found["elastic"], found["elastic, with fault tolerance"]
    pairs = {
        "throughput_with_ft": (base, tolerant),
        "throughput_control": (base, found["elastic, the same again"]),
        "throughput_not_elastic_with_ft": (
            found["not elastic"],
            found["not elastic, with fault tolerance"],
        ),
        "throughput_2_virtual_a_rank": (tolerant, found["elastic, with fault tolerance, V = 2P"]),
        "throughput_4_virtual_a_rank": (tolerant, found["elastic, with fault tolerance, V = 4P"]),
    }
    summary: dict[str, Any] = {"cost_turns": len(base)}
    for name, (without, with_it) in pairs.items():
        ratios = np.array(without) / np.array(with_it)
        low, high = harness.bootstrap_interval(ratios)
        summary[name] = round(float(np.median(ratios)), 3)
        summary[f"{name}_95"] = [round(low, 3), round(high, 3)]
    return summary


def restart() -> float:
    """Return the seconds from a rank's death to the next new step, if all start from a checkpoint."""
    schedule = Schedule(0, [4], [(KILL_AT, 2, "kill", 0.0)])
    checkpoint = tempfile.mkdtemp(prefix="eai-ckpt-")
    before = _run_with_checkpoint(schedule, checkpoint)
    after = _run_with_checkpoint(Schedule(0, [4]), checkpoint)
    killed = next(line["at"] for line in before[2] if "kill" in line)
    new = [line["at"] for line in after[0] if "loss" in line and line["step"] >= KILL_AT]
    harness.say(f"a restart from a checkpoint: {min(new) - killed:.1f} s")
    return float(min(new) - killed)


def _run_with_checkpoint(schedule: Schedule, checkpoint: str) -> list[list[dict[str, Any]]]:
    folder = Path(tempfile.mkdtemp(prefix="eai-restart-"))
    rank = [sys.executable, str(HERE / "_elastic_rank.py"), json.dumps(schedule.events)]
    command = [find_mpirun(), "-n", str(schedule.size), "--oversubscribe", "--bind-to", "none"]
    _run([*command, *rank, str(folder), checkpoint, str(EVERY)], schedule.size, folder)
    return read_lines(folder, schedule.size)


def _run(command: list[str], ranks: int, folder: Path) -> None:
    environment = {**os.environ, **rank_environment(ranks), "PYTHONPATH": path_of_ranks()}
    with (folder / "output").open("w") as output:
        subprocess.run(
            command, env=environment, stdout=output, stderr=output, timeout=600, check=False
        )
    time.sleep(0.1)
