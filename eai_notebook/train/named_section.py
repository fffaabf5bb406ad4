"""`section`: book a block of Python of the user's to a name of its own in the ledger."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Book the time of the block to `name`, instead of to what has no name.

    For Python that runs between the steps of a training, or in them: a callback's work, a
    conversion of the batch in a loop of one's own. The report and the verdict then say "goes to
    the section `name`". Where a package has added a ledger part with a column `name`, the time
    is that part's. In a block inside another one it counts for the inner name alone.

    Only the thread that trains is timed, and only while a run is open; elsewhere the block runs
    as if it stood alone. What TensorFlow's graph does at the same time stays in its own part.

    Examples:
        >>> with section("augment"):
        ...     batch = [2 * number for number in (1, 2, 3)]
        >>> batch
        [2, 4, 6]
    """
    from eai_notebook.train.recording import step_clock

    clock = step_clock.current()
    if clock is None or not clock.named.is_own_thread:
        yield
        return
    named = clock.named
    began, noted = time.perf_counter(), named.noted
    try:
        yield
    finally:
        own = time.perf_counter() - began - (named.noted - noted)
        named.add("section", max(0.0, own), name)
