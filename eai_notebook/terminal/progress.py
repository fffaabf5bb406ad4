"""Progress lines: redrawn in a terminal, one line at a time in a log.

In a log file a redrawn bar would be nothing until the end, or thousands of lines; so without a
terminal progress is a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from eai_notebook.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[float, str], None]
"""``report(done, activity)``: the share done so far, 0 to 1, and the current activity."""

LINE_SHARE = 0.1
LINE_SECONDS = 15.0


@contextmanager
def progress(title: str, to: Console | None = None) -> Iterator[Report]:
    """Show `title` with a bar (terminal) or as lines (log) while the block reports.

    A line is written for every tenth of the work and whenever 15 s have passed.
    """
    to = to or console.err
    shown = _bar(title, to) if to.is_terminal else _lines(title, to)
    with shown as report:
        yield report


@contextmanager
def _bar(title: str, to: Console) -> Iterator[Report]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[activity]}", markup=True),
    )
    with Progress(*columns, console=to) as bar:
        task = bar.add_task(title, total=1.0, activity="")

        def report(done: float, activity: str) -> None:
            bar.update(task, completed=done, activity=activity)

        yield report
        bar.update(task, activity="")


@contextmanager
def _lines(title: str, to: Console) -> Iterator[Report]:
    begin = time.monotonic()
    last = {"share": -1.0, "time": begin}

    def report(done: float, activity: str) -> None:
        now = time.monotonic()
        if done - last["share"] < LINE_SHARE and now - last["time"] < LINE_SECONDS and done < 1:
            return
        if done == last["share"]:
            return
        last.update(share=done, time=now)
        text = f"{title}: {done:4.0%}  {now - begin:5.1f} s  {activity}".rstrip()
        to.print(text, highlight=False, markup=False)

    yield report
