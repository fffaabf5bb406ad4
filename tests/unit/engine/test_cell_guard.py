from __future__ import annotations

import os
import signal
import threading
import traceback
from types import SimpleNamespace

import pytest

from eai_notebook import collective
from eai_notebook.engine import cell_guard as guarding
from eai_notebook.engine import long_traceback
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


def deep(frames: int) -> None:
    if frames:
        deep(frames - 1)
    else:
        try:
            dict[str, int]()["the cause"]
        except KeyError as cause:
            raise ValueError("the end") from cause


def test_a_long_traceback_without_recursion_keeps_more_frames() -> None:
    lines = "".join(f"def f{i}():\n    return f{i + 1}()\n" for i in range(200))
    names: dict[str, object] = {}
    exec(f"{lines}def f200():\n    raise ValueError('the end')", names)  # noqa: S102 -- ours
    with pytest.raises(ValueError, match="the end") as caught:
        names["f0"]()  # type: ignore[operator]
    long_traceback.shorten(caught.value)
    kept = traceback.extract_tb(caught.value.__traceback__)
    assert len(kept) == long_traceback.FIRST + long_traceback.LAST
    assert (kept[1].name, kept[-1].name) == ("f0", "f200")


def test_a_long_traceback_keeps_both_ends() -> None:
    with pytest.raises(ValueError, match="the end") as caught:
        deep(900)
    error = caught.value
    assert long_traceback.shorten(error) > 800
    kept = traceback.extract_tb(error.__traceback__)
    assert len(kept) == 1 + 2 * long_traceback.REPEATS  # the test, and both ends of the recursion
    assert kept[0].name == "test_a_long_traceback_keeps_both_ends"
    assert kept[-1].line == 'raise ValueError("the end") from cause'
    assert isinstance(error.__cause__, KeyError)
    assert long_traceback.shorten(error) == 0
