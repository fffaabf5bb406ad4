"""`with_retries`: retry transient storage errors, and print each retry."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from eai_notebook.bookkeeping import say
from eai_notebook.io.sources.storage_errors import describe_fault, is_storage_fault, is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

TRIES: Final = 5
FIRST_PAUSE_S: Final = 0.2
"""Each further pause is four times as long, plus or minus a quarter: 17 s in all."""


_thread = threading.local()


def stop_with(event: threading.Event) -> None:
    """Make this thread stop its retries when `event` is set."""
    _thread.stop = event


def with_retries(work: Callable[[], Result], url: str) -> Result:
    """Return the result of `work` with a file, after retries of transient errors.

    Raises:
        EaiError: The error is permanent, or every try has failed.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except Exception as error:  # noqa: PERF203 - one try for about a megabyte
            if not is_storage_fault(error):
                raise
            if attempt == TRIES or not is_transient(error, url):
                raise describe_fault(error, url, attempt) from error
            pause = FIRST_PAUSE_S * 4 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
            fault = describe_fault(error, url, 1).what
            stop: threading.Event | None = getattr(_thread, "stop", None)
            if stop is not None and stop.is_set():
                raise describe_fault(error, url, attempt) from error
            say(f"{fault}; try {attempt + 1} of {TRIES} in {pause:.1f} s")
            if stop is None:
                time.sleep(pause)
            elif stop.wait(pause):
                raise describe_fault(error, url, attempt) from error
    raise AssertionError  # the last try returns or raises
