"""Stop, noted: taken once, never lost, and with its usual force where nobody takes it."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from eai_notebook.session import interrupts
from eai_notebook.session.interrupts import DeferredInterrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_press_is_taken_once() -> None:
    with DeferredInterrupt() as noted:
        press()
        assert noted.is_pressed
        assert (noted.take(), noted.take()) == (True, False)


def test_one_that_nobody_took_is_raised_at_the_end() -> None:
    done = []

    def work() -> None:
        with DeferredInterrupt():
            press()
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]


def test_an_error_is_not_hidden_by_it() -> None:
    def work() -> None:
        with DeferredInterrupt():
            press()
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        work()


def test_a_second_interrupt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with DeferredInterrupt() as noted:
        press()
        press()
        monkeypatch.setattr(interrupts, "IMPATIENT_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            press()
        noted.take()


def test_stop_has_its_usual_force_before_and_after() -> None:
    before = signal.getsignal(signal.SIGINT)
    with DeferredInterrupt():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with DeferredInterrupt() as noted:
            press()
            assert not noted.take()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_it_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with DeferredInterrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
