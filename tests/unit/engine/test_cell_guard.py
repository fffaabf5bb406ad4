from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from eai_notebook import collective
from eai_notebook.engine import cell_guard as guarding
from eai_notebook.engine.cell_guard import Guard

WELL = SimpleNamespace(error_in_exec=None, error_before_exec=None)


@pytest.mark.parametrize("late", [True, False])
def test_an_interrupt_frees_the_ring_of_the_cell_it_was_meant_for(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(guarding, "INTERRUPT_GRACE_S", 0.05)
    monkeypatch.setattr(collective, "release", released.set)
    guard = Guard(SimpleNamespace(showtraceback=None, user_ns={}), world_rank=0)
    before, own = signal.getsignal(signal.SIGINT), bytes([signal.SIGINT])
    guard.before_cell(None)
    guard.after_cell(WELL)
    if late:  # the signal came when no cell ran; its reader comes when the next one does
        os.write(guard.from_handler, own)
    guard.before_cell(None)
    if not late:
        os.write(guard.from_handler, own)
    threading.Thread(target=guard.watch_signals, daemon=True).start()
    assert released.wait(1.0) is not late
    guard.after_cell(WELL)
    assert signal.getsignal(signal.SIGINT) is before
