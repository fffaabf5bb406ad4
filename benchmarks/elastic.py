"""Elastic training under random schedules of deaths, notices and slow ranks, on local ranks.

Each schedule is drawn from its seed: 2 to 6 ranks, of which some are killed (rank 0 too, two at
once, down to one), some leave on notice, some are slow, and in some a rank joins, which deaths may
hit as well. The losses of every step are compared with those of a run that nothing has disturbed.
Hosts are not part of it. A time is null where no schedule had what it times.

Usage: python benchmarks/elastic.py [--schedules 200] [--seed 0]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import _harness as harness  # noqa: E402 - the fork server of the tests is not a package of ours
from preloaded_python import PreloadedPython  # noqa: E402

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS: Final = 28
VIRTUAL: Final = 4
HANG_S: Final = 180.0
"""When a schedule counts as one that hangs."""
SETTLE_S: Final = 5.0
"""How long what a schedule has started may take to be gone."""

Event = tuple[int, int, str, float]
Lines = list[dict[str, Any]]


def schedule_of(seed: int) -> tuple[int, list[Event]]:
    """Return how many ranks a schedule has, and its events: step, rank, what, seconds."""
    draw = random.Random(seed)
    size = draw.randint(2, 6)
    left = list(range(size))
    events: list[Event] = []
    for _ in range(draw.randint(1, size - 1)):
        rank = left.pop(0 if draw.random() < 0.3 else draw.randrange(len(left)))
        what = draw.choice(["kill", "kill", "kill", "leave"])
        twice = bool(events) and draw.random() < 0.3
        step = events[-1][0] if twice else draw.randrange(1, STEPS)
        events.append((step, rank, what, draw.choice([0.0, draw.uniform(0.0, 0.05)])))
    if draw.random() < 0.3:
        events.append((draw.randrange(1, STEPS), draw.choice(left), "slow", 0.3))
    if draw.random() < 0.4:
        step, sponsor = draw.randrange(1, STEPS - 4), draw.choice(left)
        events.append((step, sponsor, "join", float(size)))
        events += [(step + 2, sponsor, "asks", 0.0), (step + 3, sponsor, "ready", 0.0)]
    return size, events


class Outcome:
    """What schedules have come to."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.difference = 0.0
        self.deaths: list[float] = []
        self.pauses: list[float] = []

    def add(self, size: int, events: list[Event], said: list[Lines], usual: list[float]) -> None:
        """Judge a schedule by what its ranks have written."""
        gone = {rank for _, rank, what, _ in events if what in ("kill", "leave")}
        joins = [(step, sponsor) for step, sponsor, what, _ in events if what == "ready"]
        for step, sponsor in joins:
            newcomer = said[size] if len(said) > size else []
            self.counts["joins"] += bool(newcomer and "done" in newcomer[-1])
            self.pauses += _pause(said[sponsor], step)
        live = [said[rank] for rank in range(size) if rank not in gone]
        if not all(lines and "done" in lines[-1] for lines in live):
            self.counts["failed"] += 1
        for lines in said:
            losses = [line["loss"] for line in lines if "loss" in line]
            steps = [line["step"] for line in lines if "loss" in line]
            relative = np.abs(np.array(losses) / np.array(usual)[np.array(steps, int)] - 1)
            self.difference = max(self.difference, float(relative.max(initial=0.0)))
        self._count_rows(said)
        kills = sorted(
            (line["at"], line["kill"]) for lines in said for line in lines if "kill" in line
        )
        for at, _ in kills:
            after = [
                min((s["at"] for s in lines if "loss" in s and s["at"] > at), default=None)
                for lines in live
            ]
            known = [each for each in after if each is not None]
            if known:
                self.deaths.append(max(known) - at)
        redone = Counter(
            step
            for lines in live
            for step, n in Counter(line["attempt"] for line in lines if "attempt" in line).items()
            if n > 1
        )
        self.counts["steps_redone"] += len(redone)

    def _count_rows(self, said: list[Lines]) -> None:
        """Count what virtual ranks' batches were left out of a step, or were in it twice.

        Of each rank its last attempt at a step counts. Of one that died in a step it is unknown
        whether its part was in the sum: either way of counting may be the right one.
        """
        for step in range(STEPS):
            of_live: list[int] = []
            of_dead: list[list[int]] = []
            for lines in said:
                blocks = [line["block"] for line in lines if line.get("attempt") == step]
                last = blocks[-1] if blocks else []
                if any(line.get("step") == step for line in lines):
                    of_live += last
                elif last:
                    of_dead.append(last)
            best = min((_apart(of_live, some) for some in _subsets(of_dead)), key=sum)
            self.counts["rows_missed"] += best[0]
            self.counts["rows_twice"] += best[1]


def _pause(lines: Lines, step: int) -> list[float]:
    """Return how long a rank made no step after `step`, at whose end another one joined."""
    ends = [line["at"] for line in lines if line.get("step") == step]
    begins = [line["at"] for line in lines if line.get("begins") == step + 1]
    return [begins[0] - ends[0]] if begins and ends else []


def _subsets(blocks: list[list[int]]) -> Iterator[list[int]]:
    """Yield each choice of some of the blocks, joined."""
    for count in range(len(blocks) + 1):
        for some in itertools.combinations(blocks, count):
            yield list(itertools.chain(*some))


def _apart(live: list[int], dead: list[int]) -> tuple[int, int]:
    """Return how many virtual ranks are missing, and how many were run more than once."""
    total = Counter([*live, *dead])
    return sum(not total[v] for v in range(VIRTUAL)), sum(total[v] > 1 for v in range(VIRTUAL))


def run(python: PreloadedPython, size: int, events: list[Event]) -> list[Lines] | None:
    """Run a schedule; return what each rank has written, None if it hangs."""
    folder = Path(tempfile.mkdtemp(prefix="eai-elastic-"))
    command = [find_mpirun(), "--with-ft", "ulfm", "-n", str(size), "--oversubscribe"]
    rank = [*python.command(HERE / "_elastic_rank.py"), json.dumps(events), str(folder)]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, "--bind-to", "none", *rank],
            env={
                **os.environ,
                **rank_environment(size),
                "PYTHONPATH": _path(),
                "OMPI_MCA_btl_tcp_if_include": "lo",
                "EAI_RANK_COMMAND": json.dumps(rank),
            },
            stdout=output,
            stderr=output,
        )
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return None
    files = [folder / f"{rank}.jsonl" for rank in range(size)]
    if (newcomer := folder / f"{size}.jsonl").exists():
        files.append(newcomer)
    return [
        [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        for file in files
    ]


def _seconds(summed_up: Callable[[list[float]], Any], found: list[float]) -> float | None:
    """Return one number for some durations; None, which is JSON's null, where there were none."""
    return round(float(summed_up(found)), 3) if found else None


def _path() -> str:
    return os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def left_behind(known: set[int]) -> int:
    """Return how many processes beside `known` are still there after a while."""
    ends = time.monotonic() + SETTLE_S
    while True:
        found = {each.pid for each in psutil.Process().children(recursive=True)} - known
        if not found or time.monotonic() > ends:
            return len(found)
        time.sleep(0.05)


def main() -> None:
    """Run the schedules and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    environment = {**os.environ, **rank_environment(2), "PYTHONPATH": _path()}
    python = PreloadedPython(Path(tempfile.mkdtemp(prefix="eai-preloaded-")), environment)
    python.command(HERE / "_elastic_rank.py")  # waits for it
    known = {each.pid for each in psutil.Process().children(recursive=True)}
    alone = run(python, 1, [])
    assert alone is not None, "a run of one rank hangs"
    usual = [line["loss"] for line in alone[0] if "loss" in line]
    assert len(usual) == STEPS, f"{len(usual)} steps"
    found = Outcome()
    for seed in range(options.seed, options.seed + options.schedules):
        size, events = schedule_of(seed)
        said = run(python, size, events)
        found.counts["hangs"] += said is None
        found.counts["left_behind"] += left_behind(known)
        if said is not None:
            found.add(size, events, said, usual)
        harness.say(f"{seed}: {size} ranks, {events}: {dict(found.counts)}, {found.difference:.1e}")
    python.close()
    counts = found.counts
    summary = {
        "schedules": options.schedules,
        "hangs": counts["hangs"],
        "failed": counts["failed"],
        "max_rel_loss_diff": found.difference,
        "rows_missed": counts["rows_missed"],
        "rows_twice": counts["rows_twice"],
        "deaths": len(found.deaths),
        "median_rank_death_s": _seconds(np.median, found.deaths),
        "worst_rank_death_s": _seconds(max, found.deaths),
        "joins": counts["joins"],
        "worst_join_pause_s": _seconds(max, found.pauses),
        "steps_redone": counts["steps_redone"],
        "left_behind": counts["left_behind"],
    }
    harness.finish("elastic", summary, {"seed": options.seed})


if __name__ == "__main__":
    main()
