"""The cell guard: a rank that fails or is stopped releases the ranks that wait for it.

A rank whose cell raised will never join the collective its peers wait in. Shutting the
ring down on that one rank makes every other rank's blocked call return with an error,
and their processes and variables live on; the session forms the ring again before the
next cell. IPython's cell events are used, not a wrapper around the user's code, so that
tracebacks keep their lines.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from typing import Any, NoReturn

from eai_notebook import collective
from eai_notebook.bookkeeping import TELEMETRY
from eai_notebook.engine import async_cells, forks, long_traceback, prompts, stack_location
from eai_notebook.telemetry import messages

INTERRUPT_GRACE_S = 1.0
WHERE_SIGNAL = signal.SIGUSR1
"""What asks a rank where it is; the session sends it when a cell has gone quiet."""
_CELL_BEGINS = 0
"""Written among the signals, of which none has this number: those before it were not for the cell."""


class Guard:
    """Watches the cells of one shell; `install` makes the one this process needs."""

    def __init__(self, shell: Any, world_rank: int) -> None:
        self._shell = shell
        self._world_rank = world_rank
        self.wakeups, self.from_handler = os.pipe()
        """Where signals are read by their numbers, and where Python's own handler writes them."""
        os.set_blocking(self.from_handler, False)
        self._cell = 0
        self._reached = 0  # the cell that the reader of signals has come to
        self._running = False
        self._show_error = shell.showtraceback
        self._usual: Any = None  # what an interrupt does, while it is passed over
        self._cancelled = False  # by an interrupt, while it was waiting for something

    @property
    def is_running(self) -> bool:
        """Whether user code is running."""
        return self._running

    def before_cell(self, _info: Any) -> None:
        """Note that user code is running from now on."""
        self._cell += 1
        self._cancelled = False
        os.write(self.from_handler, bytes([_CELL_BEGINS]))
        self._running = True

    def show_error(self, *which: Any, running_compiled_code: bool = False, **how: Any) -> None:
        """Show an error as the shell does; one that ends the cell cannot be interrupted any more.

        The cell is ending, as an interrupt would have it. It would only spoil what is said of the
        error, which takes some time where the error comes from deep inside TensorFlow.
        """
        if running_compiled_code:
            self._pass_over_interrupts()
            messages.emit(messages.CellEnding(self._world_rank))
            if (error := sys.exc_info()[1]) is not None and not which:
                left_out = long_traceback.shorten(error)
                which = ((type(error), error, error.__traceback__),)
                if left_out:
                    sys.stderr.write(f"{left_out:,} frames of the traceback are left out\n")
        if self._shell.call_pdb:  # by `%pdb on`; it would hide the error behind its own refusal
            self._shell.call_pdb = False
            sys.stderr.write(
                f"%pdb is off: no debugger can ask from a rank; {prompts.DEBUG_REMEDY}\n"
            )
        self._show_error(*which, running_compiled_code=running_compiled_code, **how)

    def after_cell(self, result: Any) -> None:
        """End the cell's runs, and free the peers if the cell failed.

        `result` is None if the cell was cancelled before its first line.
        """
        self._pass_over_interrupts()
        self._running = False
        error = self._error_of(result)
        try:
            messages.cell_ended(_outcome(error))
        finally:
            if error is not None:
                collective.release()
            usual, self._usual = self._usual, None
            signal.signal(signal.SIGINT, usual)

    def note_cancelled(self) -> None:
        """Note that an interrupt has cancelled the running cell, for it cannot raise there."""
        self._cancelled = True

    def _error_of(self, result: Any) -> BaseException | None:
        """Return what the cell failed with; one that was stopped says so in the usual way."""
        if result is None:
            return KeyboardInterrupt()
        if self._cancelled and isinstance(result.error_in_exec, asyncio.CancelledError):
            result.error_in_exec = KeyboardInterrupt()
        if isinstance(result.error_in_exec, Exception):
            result.error_in_exec = collective.translate(result.error_in_exec)
        error: BaseException | None = result.error_in_exec or result.error_before_exec
        return error

    def _pass_over_interrupts(self) -> None:
        if self._usual is None:
            self._usual = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch_signals(self) -> None:
        """Act on signals beside the main thread, which may be in C code without end.

        Python runs its handlers only between two of its own instructions, so a rank that
        is blocked in a collective never gets there. The C handler writes the signal's number at
        once, and this thread reads it: it frees the ring of an interrupted cell that goes
        on, and says where the rank is when it is asked to. It may get there late, when the next
        cell runs already, which the signal was not meant for.
        """
        while True:
            (number,) = os.read(self.wakeups, 1)
            if number == _CELL_BEGINS:
                self._reached += 1
            elif not self._running or self._reached != self._cell:
                continue
            elif number == signal.SIGINT:
                self._release_if_stuck(self._cell)
            elif number == WHERE_SIGNAL:
                with messages.books.doing(TELEMETRY):
                    self._say_where()

    def _say_where(self) -> None:
        found = stack_location.current_location(self._world_rank, self._shell.user_ns)
        if found is not None:
            messages.emit(found)

    def _release_if_stuck(self, cell: int) -> None:
        deadline = time.monotonic() + INTERRUPT_GRACE_S
        while time.monotonic() < deadline:
            if not self._running or self._cell != cell:
                return
            time.sleep(0.02)
        collective.release()


def install(shell: Any, world_rank: int) -> Guard:
    """Put a guard on `shell`'s cells and on this process's signals."""
    guard = Guard(shell, world_rank)
    shell.events.register("pre_run_cell", guard.before_cell)
    shell.events.register("post_run_cell", guard.after_cell)
    shell.showtraceback = guard.show_error
    shell.ask_exit = _end_cell
    warnings.filterwarnings("ignore", message="To exit: use")
    async_cells.install(shell.kernel, guard.note_cancelled)
    signal.set_wakeup_fd(guard.from_handler, warn_on_full_buffer=False)
    signal.signal(WHERE_SIGNAL, lambda *_: None)  # without a handler it would end the rank
    forks.install([WHERE_SIGNAL])
    threading.Thread(target=guard.watch_signals, name="eai-signals", daemon=True).start()
    return guard


def _end_cell() -> NoReturn:
    """End the cell that calls IPython's `exit` or `quit`; it would end the rank, and the group."""
    raise SystemExit


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
