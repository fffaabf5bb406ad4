from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from waiting import PATIENCE_S

from eai_notebook.io.part import Loaded
from eai_notebook.io.pipeline import prefetch

if TYPE_CHECKING:
    import pytest


class Desk:
    """Has every part's rows at once."""

    def load(self, job: prefetch.Job) -> Loaded:
        """Return as many rows as the part has."""
        return Loaded({"label": np.zeros((job.part.rows, 1))})

    def close(self) -> None:
        """Leave nothing."""


def test_no_reader_waits_for_ever_when_the_reading_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "POLL_S", 0.0005)  # so that jobs come as readers give up waiting
    before = set(threading.enumerate())
    part: Any = SimpleNamespace(name="a part", rows=1)
    for _ in range(5):
        read = prefetch.Prefetcher([part], itertools.repeat(0), iter(()), Desk, readers=4, width=1)
        for _ in range(300):
            assert read.next(threading.Event()) is not None
            time.sleep(0.0005)
        read.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
    assert set(threading.enumerate()) <= before
