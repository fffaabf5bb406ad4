"""Readers and queue grow while steps wait, and shrink when none has for long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from eai_notebook.io.part import Field, Part, Source
from eai_notebook.io.pipeline import reader_autotune
from eai_notebook.io.pipeline.epoch_plan import Plan, Size
from eai_notebook.io.pipeline.reader_autotune import CALM_S, INTERVAL_S, MAX_READERS, ReaderAutotune
from eai_notebook.io.pipeline.wait_meter import WaitMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


@dataclass(frozen=True)
class Rows:
    rows: int = 100
    path: str = "some.tsv"


def sized(readers: Size = "auto", queue: Size = "auto", width: int = 1) -> ReaderAutotune:
    parts = cast("list[Part]", [Rows()] * 50)
    source = Source("some", parts, {"x": Field(np.float32, (width,))})
    made = ReaderAutotune(Plan(source, 10, 500, readers=readers, queue=queue), WaitMeter())
    made.begin(0.0)
    return made


def run(
    made: ReaderAutotune, seconds: float, wait: Callable[[ReaderAutotune], float], stage: str
) -> None:
    """Let time pass in which a look finds what `wait` says was waited for."""
    passed = 1.25 * INTERVAL_S
    for _ in range(int(seconds / passed)):
        made.meter.waited[stage] += wait(made) * passed
        made.update(made._updated + passed)


def test_fetching_that_is_waited_for_gets_readers_until_it_is_hidden() -> None:
    made = sized()
    run(made, 3, lambda made: 0.3 if made.readers.size < 9 else 0.0, "fetch")
    assert made.readers.size == 16


def test_what_lies_far_away_begins_with_more_readers() -> None:
    parts = cast("list[Part]", [Rows(path="s3://logs/some.tsv")])
    source = Source("some", parts, {"x": Field(np.float32)})
    assert ReaderAutotune(Plan(source, 10, 1), WaitMeter()).readers.size > sized().readers.size


def test_they_shrink_to_what_is_needed_and_stay_there() -> None:
    made = sized()
    needs = 9
    run(made, 20 * CALM_S, lambda made: 0.3 if made.readers.size < needs else 0.0, "fetch")
    assert made.readers.size == needs
    run(made, 20 * CALM_S, lambda _: 0.0, "fetch")
    assert made.readers.size == needs


def test_parsing_gets_no_more_readers_than_processors_can_feed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_autotune, "processors", lambda: 3)
    made = sized()
    run(made, 5, lambda _: 0.5, "parse")
    assert made.readers.size == 6


def test_sizes_that_were_given_stay() -> None:
    made = sized(readers=3, queue=5)
    run(made, 5, lambda _: 0.5, "fetch")
    assert (made.readers.size, made.queue.size) == (3, 5)


def test_memory_bounds_what_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 20 * 5 * 4 * 100 * 1000  # five parts in a twentieth of it

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    made = sized(width=1000)
    run(made, 5, lambda _: 0.5, "fetch")
    assert made.readers.size == 5
    wide: Any = sized(width=1)
    run(wide, 5, lambda _: 0.5, "fetch")
    assert wide.readers.size == MAX_READERS
