"""Input waits of a run, by stage: from the readers to the run record.

The readers know it (`eai_notebook.io`), the step clock asks for it when a run begins and ends,
the record keeps the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook.ledger.formatting import ms, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Sums = dict[str, float]
"""Sums over the life of some data, by name: those of `BOUND`, ``batches``, ``cpu_s``; and as
they are now ``readers``, ``queue`` and ``depth``, the batches that were ready."""

BOUND: Final = {
    "fetch": "fetch-bound: storage",
    "parse": "parse-bound: parsing",
    "shuffle": "shuffle-bound: mixing rows",
    "hand_over": "hand-over-bound: handing batches over",
}
"""What input is bound by, for each stage."""

_NOW: Final = ("readers", "queue", "depth")
_WORTH_NAMING: Final = 1e-4  # seconds a batch

_reader: Callable[[], Sums] | None = None


def set_input_wait_provider(reader: Callable[[], Sums] | None) -> None:
    """Set the reader whose waits are reported for this rank."""
    global _reader
    _reader = reader


def sums() -> Sums:
    """Return the waits so far; empty without a reader."""
    return {} if _reader is None else _reader()


def since(before: Mapping[str, float], now: Mapping[str, float]) -> Sums:
    """Return what came on between two times.

    Examples:
        >>> since({"fetch": 1.0, "depth": 4.0}, {"fetch": 3.0, "depth": 2.0})
        {'fetch': 2.0, 'depth': 2.0}
    """
    return {
        name: value if name in _NOW else value - before.get(name, 0.0)
        for name, value in now.items()
    }


def bound_by(ranks: Iterable[Mapping[str, float]]) -> str | None:
    """Return the stage that input waited for most and its share; None if nothing is known.

    Examples:
        >>> bound_by([{"fetch": 3.0, "parse": 1.0, "batches": 100.0}])
        'fetch-bound: storage is 75 % of that'
    """
    waited = dict.fromkeys(BOUND, 0.0)
    for rank in ranks:
        for stage in BOUND:
            waited[stage] += rank.get(stage, 0.0)
    whole = sum(waited.values())
    if not whole > 0:
        return None
    worst = max(waited, key=lambda stage: waited[stage])
    return f"{BOUND[worst]} is {percent(waited[worst] / whole)} of that"


def largest_stage(ranks: Iterable[Mapping[str, float]]) -> str | None:
    """Return the name in `BOUND` of the stage that was waited for most; None if none was.

    Examples:
        >>> largest_stage([{"fetch": 3.0, "parse": 1.0}]), largest_stage([{}])
        ('fetch', None)
    """
    waited = dict.fromkeys(BOUND, 0.0)
    for rank in ranks:
        for stage in BOUND:
            waited[stage] += rank.get(stage, 0.0)
    worst = max(waited, key=lambda stage: waited[stage])
    return worst if waited[worst] > 0 else None


def describe_input_wait(ranks: Iterable[Mapping[str, float]]) -> str | None:
    """Return in one line what input was waited for, on all ranks; None if it was not.

    Examples:
        >>> describe_input_wait([{"fetch": 3.0, "parse": 1.0, "batches": 100.0, "cpu_s": 2.0, "readers": 4.0}])
        'input is fetch-bound: storage is 75 % of 40.0 ms waited a batch; 4 readers, 20.0 ms of processor a batch'
    """
    ranks = [rank for rank in ranks if rank.get("batches", 0) > 0]
    batches = sum(rank["batches"] for rank in ranks)
    waited = {stage: sum(rank.get(stage, 0.0) for rank in ranks) for stage in BOUND}
    whole = sum(waited.values())
    if not ranks or whole < _WORTH_NAMING * batches:
        return None
    worst = max(waited, key=lambda stage: waited[stage])
    readers = max(rank.get("readers", 0.0) for rank in ranks)
    cpu = sum(rank.get("cpu_s", 0.0) for rank in ranks) / batches
    return (
        f"input is {BOUND[worst]} is {percent(waited[worst] / whole)} of {ms(whole / batches)} "
        f"waited a batch; {readers:.0f} readers, {ms(cpu)} of processor a batch"
    )
