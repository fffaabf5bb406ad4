"""`RankError`: the root cause among the errors of many ranks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eai_notebook.errors import RELEASED
from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEER_FAILED = "PeerFailedError"
"""What elastic training raises on the other ranks."""
_RANKS_STAY = "The cell has ended; the ranks and their variables stay (`%eai down` ends them)."


@dataclass(frozen=True)
class Reply:
    """How a cell ended on one rank; ``at`` is when the kernel heard of it, in seconds."""

    rank: int
    host: str
    at: float
    ename: str | None = None
    evalue: str = ""
    traceback: tuple[str, ...] = field(default=(), repr=False)

    @property
    def failed(self) -> bool:
        """Whether the cell raised on this rank."""
        return self.ename is not None

    @property
    def words(self) -> str:
        """What the cell raised, in a line."""
        return f"{self.ename}: {self.evalue}".partition("\n")[0]

    @property
    def is_lost(self) -> bool:
        """Whether this rank has died."""
        return self.ename == "EngineError"

    @property
    def was_released(self) -> bool:
        """Whether this rank failed only because its exchange was released or lost a peer."""
        return self.ename in RELEASED or self.ename == _PEER_FAILED

    @property
    def was_stopped(self) -> bool:
        """Whether this rank failed only because it was interrupted."""
        return self.ename == "KeyboardInterrupt"


class RankError(Exception):
    """A cell failed on some rank; shown with that rank's own type, text and traceback.

    Subclasses made by `root_cause` carry the name of the original type, so that what
    reads only the notebook (papermill, nbclient) sees what really happened.
    """

    def __init__(self, cause: Reply, alike: Sequence[int], others: Sequence[str]) -> None:
        super().__init__(cause.evalue)
        self.rank = cause.rank
        self.ename = cause.ename
        self.host = cause.host
        self._traceback = cause.traceback
        self._alike = tuple(alike)
        self._others = tuple(others)

    def _render_traceback_(self) -> list[str]:
        """Give IPython the rank's traceback instead of the kernel's own stack."""
        heading = f"{name_ranks(self._alike)} (first: rank {self.rank} on {self.host}):"
        return [heading, *self._traceback, *self._others]


class _Interrupted(KeyboardInterrupt):
    """The user stopped a cell; says what is left instead of where the kernel was waiting."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


def interruption(ranks: Sequence[int], unresponsive: Sequence[int] = ()) -> KeyboardInterrupt:
    """Return the `KeyboardInterrupt` of a cell on `ranks` that the user stopped.

    It has that very name, which is what a front end shows and other tools read. ``unresponsive``
    are those that go on all the same.
    """
    stopped = [rank for rank in ranks if rank not in unresponsive]
    sentences = [f"{name_ranks(stopped)} stopped"] if stopped else []
    sentences += [unreported(unresponsive)] if unresponsive else []
    return _interrupted("; ".join([*sentences, "variables are as the cell left them"]))


def in_a_line(stop: KeyboardInterrupt, words: str) -> KeyboardInterrupt:
    """Return `stop` if it already has a line of its own, else one with the line `words`."""
    return stop if isinstance(stop, _Interrupted) else _interrupted(words)


def _interrupted(words: str) -> KeyboardInterrupt:
    kind: type[_Interrupted] = type("KeyboardInterrupt", (_Interrupted,), {})
    return kind(words)


def unreported(unresponsive: Sequence[int]) -> str:
    """Say of ranks that go on what that means for the next cell."""
    return (
        f"{name_ranks(unresponsive)} did not listen, being inside code that lets no Python run; "
        "the next cell waits for it, and `%eai restart` ends it together with all variables"
    )


def root_cause(replies: Sequence[Reply], unresponsive: Sequence[int] = ()) -> RankError | None:
    """Return the error to raise for `replies`, or None when no rank failed.

    The earliest rank that failed by itself is the cause: one that was released from a
    collective or stopped failed as a consequence. Ranks with the same error are named
    together, and every other failed rank in one line. ``unresponsive`` are the ranks that go on
    although they were interrupted.
    """
    failed = sorted((reply for reply in replies if reply.failed), key=lambda reply: reply.at)
    if not failed:
        return None
    by_itself = [reply for reply in failed if not (reply.was_released or reply.was_stopped)]
    cause = (by_itself or failed)[0]
    alike = [r.rank for r in failed if (r.ename, r.evalue) == (cause.ename, cause.evalue)]
    others = _consequences([reply for reply in failed if reply.rank not in alike])
    others += [f"{unreported(unresponsive)}."] if unresponsive else []
    others += [_RANKS_STAY] if cause.ename == "SystemExit" else []
    kind: type[RankError] = type(str(cause.ename), (RankError,), {"__module__": __name__})
    return kind(cause, alike, others)


def _consequences(replies: Sequence[Reply]) -> list[str]:
    """Say of the other failed ranks what became of them, a line for each fate."""
    fates: dict[str, list[int]] = {}
    for reply in replies:
        if reply.was_released:
            fate = "waiting in a collective, and released"
        elif reply.was_stopped:
            fate = "still running, and interrupted"
        else:
            words = reply.evalue.strip().partition("\n")[0][:200]
            fate = f"failing with {reply.ename}" + (f": {words}" if words else "")
        fates.setdefault(fate, []).append(reply.rank)
    return [
        f"{name_ranks(ranks)} {'was' if len(ranks) == 1 else 'were'} {fate}."
        for fate, ranks in fates.items()
    ]
