"""A walk through what a group is for, wherever it runs: start, cell, error, Stop, training, restart, down; each timed."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import equivalence

from eai_notebook.errors import EaiError
from eai_notebook.session import RankError, Session, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STEPS: Final = 30
CASE: Final = ("dense", "sgd")
_SET_UP = "import eai_notebook as eai\nfrom eai_notebook import collective"
_ERROR = "if eai.rank() == 1: raise ValueError('row 7')\ncollective.barrier()"
_SLEEP = "import time\nprint('asleep', flush=True)\ntime.sleep(300)"
_TRAIN = f"weights = train({CASE!r}[0], {CASE!r}[1], {STEPS}, eai.rank(), eai.size(), 'distributed', 'float64')"


class _Hears(Watcher):
    """Notes when a text comes."""

    def __init__(self) -> None:
        super().__init__()
        self.at_text = threading.Event()

    def text(self, stream: str, text: str) -> None:  # noqa: ARG002
        """Note it."""
        self.at_text.set()


def reference() -> Any:
    """Return the weights of the training in one process, with the plain optimizer on the whole batch."""
    names: dict[str, Any] = {}
    exec(equivalence.CASES, names)  # noqa: S102  the very source that the ranks run
    return names["train"](*CASE, STEPS, 0, 1, "plain", "float64")


def walk(where: Mapping[str, Any], servers: int, alone: Any) -> dict[str, float]:
    """Return the seconds of each station; ``training`` is the difference from `alone`, relative to the largest weight.

    With ``servers`` the training is on so many parameter servers.

    Raises:
        RuntimeError: A station did not do what it is for.
    """
    heard = _Hears()
    session = Session(watcher=heard, **where)
    found: dict[str, float] = {}
    try:
        found["start"] = _seconds(lambda: _start(session, servers))
        found["cell"] = _seconds(lambda: session.run("answer = 6 * 7"))
        _expect([session.pull("answer", rank) for rank in (0, 1)] == [42, 42], "a cell's variables")
        found["error"] = _seconds(lambda: _error(session))
        found["stop"] = _stop(session, heard)
        session.run(equivalence.CASES)
        session.run(_TRAIN)
        ours = [session.pull("weights", rank) for rank in (0, 1)]
        found["training"] = max(equivalence.difference(each, alone) for each in ours)
        found["restart"] = _seconds(session.restart)
        session.run("answer = collective.allreduce_numpy(eai.rank() + 1.0)")
        _expect(float(session.pull("answer", 1)) == 3.0, "a sum after the restart")
    finally:
        found["down"] = _seconds(session.down)
    return {name: round(value, 2) if name != "training" else value for name, value in found.items()}


def _start(session: Session, servers: int) -> None:
    session.up()
    if servers:
        session.serve(servers)
    session.run(_SET_UP, setup=True)


def _error(session: Session) -> None:
    try:
        session.run(_ERROR)
    except RankError as error:
        _expect(isinstance(error, ValueError), "the error of a rank")
    else:
        _expect(None, "an error of a rank")
    session.run("pass")


def _stop(session: Session, heard: _Hears) -> float:
    """Return the seconds from Stop to the end of a cell."""
    pressed: list[float] = []

    def press() -> None:
        heard.at_text.wait()
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    heard.at_text.clear()
    pressing = threading.Thread(target=press, daemon=True)
    pressing.start()
    try:
        session.run(_SLEEP)
    except (KeyboardInterrupt, EaiError):
        return time.perf_counter() - pressed[0]
    raise RuntimeError("Stop did not end the cell")


def _expect(holds: object, what: str) -> None:
    if not holds:
        raise RuntimeError(f"not as it should be: {what}")


def _seconds(do: Callable[[], object]) -> float:
    begin = time.perf_counter()
    do()
    return time.perf_counter() - begin
