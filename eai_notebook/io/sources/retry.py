"""Retry transient storage errors and print each retry."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from eai_notebook.io.sources.storage_errors import describe_fault, is_passing, is_storage_fault

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

TRIES: Final = 5
FIRST_PAUSE_S: Final = 0.2
"""Each further pause is four times as long, give or take a quarter: 17 s for all."""


_mine = threading.local()


def stop_with(event: threading.Event) -> None:
    """Have this thread try nothing again once `event` is set: nobody wants the bytes."""
    _mine.stop = event


def with_retries(work: Callable[[], Result], url: str) -> Result:
    """Return what `work` does with a file, trying again after a fault that may pass.

    Raises:
        EaiError: The fault is lasting, or there was one at each try.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except Exception as error:  # noqa: PERF203 - once a range of a megabyte
            if not is_storage_fault(error):
                raise
            if attempt == TRIES or not is_passing(error, url):
                raise describe_fault(error, url, attempt) from error
            pause = FIRST_PAUSE_S * 4 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            fault = describe_fault(error, url, 1).what
            # In one piece: several ranks and threads write beside each other.
            stop: threading.Event | None = getattr(_mine, "stop", None)
            if stop is not None and stop.is_set():
                raise describe_fault(error, url, attempt) from error
            sys.stdout.write(f"{fault}; try {attempt + 1} of {TRIES} in {pause:.1f} s\n")
            if stop is None:
                time.sleep(pause)
            elif stop.wait(pause):
                raise describe_fault(error, url, attempt) from error
    raise AssertionError  # the last try returns or raises
