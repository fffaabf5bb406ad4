"""Random schedules of what happens to ranks and hosts, and what trainings under them have come to."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STEPS: Final = 28
VIRTUAL: Final = 4
MOST_HOSTS: Final = 3

Event = tuple[int, int, str, float]
"""A step, a rank, what happens, and seconds or a number that belong to it."""
Lines = list[dict[str, Any]]


@dataclass
class Schedule:
    """What happens to a training.

    Attributes:
        seed: What all is drawn from.
        slots: The ranks of each host; one number for ranks of this machine.
        events: What happens, with ranks by their numbers.
        least: With fewer ranks than this the training is to end.
    """

    seed: int
    slots: list[int]
    events: list[Event] = field(default_factory=list)
    least: int = 1

    @property
    def size(self) -> int:
        """How many ranks there are at the start."""
        return sum(self.slots)

    @property
    def name(self) -> str:
        """How it can be drawn again."""
        return f"{self.seed} {'on hosts' if self.is_away else 'here'}"

    @property
    def is_away(self) -> bool:
        """Whether its ranks are on hosts."""
        return len(self.slots) > 1

    def ranks_of(self, host: int) -> range:
        """Return the ranks of a host."""
        first = sum(self.slots[:host])
        return range(first, first + self.slots[host])

    def host_of(self, rank: int) -> int:
        """Return the host of a rank."""
        return next(host for host in range(len(self.slots)) if rank in self.ranks_of(host))

    @property
    def gone(self) -> set[int]:
        """The ranks that will not be there in the end."""
        found = {rank for _, rank, what, _ in self.events if what in ("kill", "leave")}
        for _, rank, what, _ in self.events:
            if what in HOST_LOSSES:
                found |= set(self.ranks_of(self.host_of(rank)))
        return found

    @property
    def ends_early(self) -> bool:
        """Whether it comes to fewer ranks than the least."""
        return self.size - len(self.gone) < self.least


HOST_LOSSES: Final = ("host killed", "host silent")


def on_this_machine(seed: int) -> Schedule:
    """Return a schedule of 2 to 6 ranks: deaths, notices, a slow one, one that joins."""
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
        return Schedule(seed, [size], events)
    # Those that are to die at the last steps may be too late to count among the dead.
    early = all(step < STEPS - 3 for step, _, _, _ in events)
    least = len(left) + 1 if early and draw.random() < 0.2 else 1
    return Schedule(seed, [size], events, least)


def on_hosts(seed: int) -> Schedule:
    """Return a schedule of 2 to 6 ranks on 2 or 3 hosts, of which one is lost, or two, or none."""
    draw = random.Random(seed)
    size = draw.randint(2, 6)
    count = draw.randint(2, min(size, MOST_HOSTS))
    slots = [len(range(host, size, count)) for host in range(count)]
    schedule = Schedule(seed, slots)
    lost = draw.choices([0, 1, 2], [1, 4, 1])[0]
    hosts = draw.sample(range(count), min(lost, count - 1))
    events: list[Event] = []
    for host in hosts:
        step, how = draw.randrange(1, STEPS - 3), draw.choice(HOST_LOSSES)
        events.append((step, schedule.ranks_of(host)[0], how, 0.0))
    left = [rank for rank in range(size) if schedule.host_of(rank) not in hosts]
    for _ in range(draw.randint(0 if hosts else 1, min(2, len(left) - 1))) if left[1:] else ():
        rank = left.pop(draw.randrange(len(left)))
        what = draw.choice(["kill", "kill", "leave"])
        step = draw.randrange(1, STEPS)
        events.append((step, rank, what, draw.choice([0.0, draw.uniform(0.0, 0.05)])))
    if draw.random() < 0.3:
        events.append((draw.randrange(1, STEPS), draw.choice(left), "slow", 0.3))
    schedule.events = events
    return schedule


@dataclass
class Said:
    """What has come of a schedule.

    Attributes:
        lines: What each rank has written, in the order of their numbers.
        lost: When which host was lost, in seconds since the epoch, by one of its ranks.
        left_behind: Processes that were still there after a while.
    """

    lines: list[Lines]
    lost: dict[int, float]
    left_behind: int = 0


class Outcome:
    """What schedules have come to; `details` can be kept, and taken up by `Outcome`."""

    def __init__(self, details: dict[str, Any] | None = None) -> None:
        known = details or {}
        self.counts: Counter[str] = Counter(known.get("counts", {}))
        self.seconds: dict[str, list[float]] = {
            kind: list(known.get("seconds", {}).get(kind, [])) for kind in KINDS
        }
        self.difference = float(known.get("difference", 0.0))
        self.seeds: dict[str, list[str]] = {
            kind: list(known.get("seeds", {}).get(kind, [])) for kind in SEEDS
        }

    @property
    def details(self) -> dict[str, Any]:
        """All that there is to know."""
        return {
            "counts": dict(self.counts),
            "seconds": {kind: np.round(all_, 3).tolist() for kind, all_ in self.seconds.items()},
            "difference": self.difference,
            "seeds": self.seeds,
        }

    def summary(self) -> dict[str, Any]:
        """Return the figures that the benchmark is asked for; None where nothing was timed."""
        counts, seconds = self.counts, self.seconds
        return {
            "schedules": counts["schedules"],
            "on_hosts": counts["on_hosts"],
            "hangs": counts["hangs"],
            "failed": counts["failed"],
            "max_rel_loss_diff": self.difference,
            "rows_missed": counts["rows_missed"],
            "rows_twice": counts["rows_twice"],
            "deaths": len(seconds["death"]),
            "median_rank_death_s": _seconds(np.median, seconds["death"]),
            "worst_rank_death_s": _seconds(max, seconds["death"]),
            "hosts_killed": len(seconds["host killed"]),
            "worst_host_killed_s": _seconds(max, seconds["host killed"]),
            "hosts_silent": len(seconds["host silent"]),
            "worst_host_silent_s": _seconds(max, seconds["host silent"]),
            "joins": counts["joins"],
            "worst_join_pause_s": _seconds(max, seconds["join pause"]),
            "steps_redone": counts["steps_redone"],
            "most_redone_of_one_loss": counts["most_redone"],
            "ended_at_the_least": counts["ended_at_the_least"],
            "left_behind": counts["left_behind"],
        }

    def add(self, schedule: Schedule, said: Said | None, usual: list[float]) -> bool:
        """Judge a schedule by what its ranks have written, None if it hangs; return if all is well."""
        self.counts["schedules"] += 1
        self.counts["on_hosts"] += schedule.is_away
        if said is None:
            self.counts["hangs"] += 1
            self.seeds["hangs"].append(schedule.name)
            return False
        before = self._wrongs()
        self.counts["left_behind"] += said.left_behind
        lines = said.lines
        live = {rank: lines[rank] for rank in range(schedule.size) if rank not in schedule.gone}
        ends_early = schedule.ends_early and not any(
            each and "done" in each[-1]
            for each in lines  # a death that came too late is none
        )
        self._add_ends(list(live.values()), ends_early=ends_early)
        self._add_joins(schedule, lines)
        self._add_losses(lines, usual)
        self._count_rows(lines, is_whole=not ends_early)
        self._add_pauses(schedule, said, live)
        self._add_redone(list(live.values()))
        if self._wrongs() != before:
            self.seeds["failed"].append(schedule.name)
        return self._wrongs() == before

    def _wrongs(self) -> tuple[Any, ...]:
        wrong = ("failed", "rows_missed", "rows_twice", "left_behind")
        return *(self.counts[what] for what in wrong), self.difference > TOLERANCE

    def _add_ends(self, live: list[Lines], *, ends_early: bool) -> None:
        last = [lines[-1] if lines else {} for lines in live]
        if ends_early:
            self.counts["ended_at_the_least"] += 1
            well = all(line.get("code") == "too-few-ranks" for line in last)
        else:
            well = all("done" in line for line in last)
        self.counts["failed"] += not well

    def _add_joins(self, schedule: Schedule, said: list[Lines]) -> None:
        for step, sponsor, what, _ in schedule.events:
            if what == "ready":
                newcomer = said[schedule.size] if len(said) > schedule.size else []
                self.counts["joins"] += bool(newcomer and "done" in newcomer[-1])
                self.seconds["join pause"] += _pause(said[sponsor], step)

    def _add_losses(self, said: list[Lines], usual: list[float]) -> None:
        for lines in said:
            losses = [line["loss"] for line in lines if "loss" in line]
            steps = [line["step"] for line in lines if "loss" in line]
            relative = np.abs(np.array(losses) / np.array(usual)[np.array(steps, int)] - 1)
            self.difference = max(self.difference, float(relative.max(initial=0.0)))

    def _add_pauses(self, schedule: Schedule, said: Said, live: dict[int, Lines]) -> None:
        """Note how long it took from each loss to the next step of those that are left."""
        for rank, lines in enumerate(said.lines):
            for line in lines:
                if "kill" in line:
                    self.seconds["death"] += _until_next_step(line["at"], rank, live)
        for _, rank, what, _ in schedule.events:
            if rank in said.lost:
                self.seconds[what] += _until_next_step(said.lost[rank], rank, live)

    def _add_redone(self, live: list[Lines]) -> None:
        redone: Counter[int] = Counter()
        for lines in live:
            attempts = Counter(line["attempt"] for line in lines if "attempt" in line)
            for step, count in attempts.items():
                redone[step] = max(redone[step], count - 1)
        self.counts["steps_redone"] += sum(count > 0 for count in redone.values())
        self.counts["most_redone"] = max([self.counts["most_redone"], *redone.values()])

    def _count_rows(self, said: list[Lines], *, is_whole: bool) -> None:
        """Count what virtual ranks' batches were left out of a step, or were in it twice.

        Of each rank its last attempt at a step counts. Of one that died in a step it is unknown
        whether its part was in the sum: either way of counting may be the right one. Of a training
        that `is_whole` all steps must have been made.
        """
        made = {line["step"] for lines in said for line in lines if "loss" in line}
        for step in range(STEPS) if is_whole else sorted(made):
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


KINDS: Final = ("death", *HOST_LOSSES, "join pause")
SEEDS: Final = ("hangs", "failed")
TOLERANCE: Final = 1e-6


def _until_next_step(at: float, rank: int, live: dict[int, Lines]) -> list[float]:
    """Return the seconds until all that live have made a step without `rank`; none if there was none."""
    ends = [
        min(
            (
                line["at"]
                for line in lines
                if "loss" in line and line["at"] > at and rank not in line["members"]
            ),
            default=None,
        )
        for lines in live.values()
    ]
    known = [end for end in ends if end is not None]
    return [max(known) - at] if known else []


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


def _apart(live: Sequence[int], dead: Sequence[int]) -> tuple[int, int]:
    """Return how many virtual ranks are missing, and how many were run more than once."""
    total = Counter([*live, *dead])
    return sum(not total[v] for v in range(VIRTUAL)), sum(total[v] > 1 for v in range(VIRTUAL))


def _seconds(summed_up: Callable[[list[float]], Any], found: list[float]) -> float | None:
    """Return one number for some durations; None, which is JSON's null, where there were none."""
    return round(float(summed_up(found)), 3) if found else None
