"""One cell run: sent to its ranks, followed by events, over when all have replied."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from eai_notebook.session.rank_errors import Reply
from eai_notebook.telemetry.messages import (
    Message,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eai_notebook.cluster.group import Group

LAST_WORDS_S = 1.0  # output may trail a reply; a rank that died will never send its last word


@dataclass(frozen=True)
class TextCame:
    """A rank wrote to stdout or stderr."""

    rank: int
    stream: str
    text: str


@dataclass(frozen=True)
class RichCame:
    """A rank displayed something: a figure, a table, the value of its last expression."""

    rank: int
    content: dict[str, Any]


@dataclass(frozen=True)
class TelemetryCame:
    """A rank's step clock said something."""

    message: Message


Event = TextCame | RichCame | TelemetryCame


class Cell:
    """The execution of `code` on `ranks`, from being sent until every rank has answered.

    Events are collected by the client's own thread and handed out by `events` to the
    thread that waits, so that all showing and writing happens there.
    """

    def __init__(
        self, group: Group, code: str, ranks: Sequence[int], hosts: dict[int, str]
    ) -> None:
        self.ranks = list(ranks)
        self.replies: dict[int, Reply] = {}
        self._hosts = hosts
        self._arrivals: queue.SimpleQueue[Event | Reply | int] = queue.SimpleQueue()
        self._speaking = set(ranks)
        self._group, self._code = group, code
        self._lost: set[int] = set()
        self.joining: set[int] = set()
        """Ranks that run the cell in order to join its training, and have not joined."""
        for rank in ranks:
            self._send(rank)

    def _send(self, rank: int) -> None:
        self._group.execute(
            rank, self._code, on_output=partial(self._hear, rank), on_reply=partial(self._end, rank)
        )

    def add(self, rank: int) -> None:
        """Have a newcomer run the cell as well: it joins the training that it comes to."""
        self.joining.add(rank)
        self.replies.pop(rank, None)
        if rank not in self.ranks:
            self.ranks.append(rank)
        self._speaking.add(rank)
        self._send(rank)

    @property
    def waits_for_newcomers(self) -> bool:
        """Whether only ranks go on that nobody lets in any more: all others have ended."""
        return bool(self.unfinished) and set(self.unfinished) <= self.joining

    @property
    def unfinished(self) -> list[int]:
        """The ranks that have not answered yet."""
        return [rank for rank in self.ranks if rank not in self.replies]

    @property
    def failed(self) -> bool:
        """Whether any rank has failed so far."""
        return any(
            reply.failed and not reply.is_lost and reply.rank not in self.joining
            for reply in self.replies.values()
        )

    @property
    def lost(self) -> list[int]:
        """The ranks that have died so far."""
        return sorted(self._lost)

    @property
    def is_over(self) -> bool:
        """Whether all ranks have answered and said all they had to say."""
        if self.unfinished:
            return False
        last = max(reply.at for reply in self.replies.values())
        return not self._speaking or time.monotonic() - last > LAST_WORDS_S

    def first_missed(self) -> str:
        """Return the rank whose process was missed first, in words."""
        missed = [reply for reply in self.replies.values() if reply.is_lost]
        if not missed:
            return "a rank"
        first = min(missed, key=lambda reply: reply.at)
        return f"rank {first.rank} on {first.host}"

    def events(self, timeout: float) -> Iterator[Event]:
        """Hand out what has come, waiting at most `timeout` seconds for the first of it."""
        wait = timeout
        while True:
            try:
                arrival = self._arrivals.get(timeout=wait) if wait else self._arrivals.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if isinstance(arrival, Reply):
                self.replies[arrival.rank] = arrival
                if arrival.is_lost:
                    self._lost |= {arrival.rank} - self.joining
                    self._speaking.discard(arrival.rank)
            elif isinstance(arrival, int):
                self._speaking.discard(arrival)
            else:
                yield arrival

    def _hear(self, rank: int, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            self._arrivals.put(TextCame(rank, content["name"], content["text"]))
        elif kind in ("display_data", "execute_result"):
            self._arrivals.put(RichCame(rank, content))
        elif kind == "data":
            for value in content.values():
                if isinstance(value, Message):
                    self._arrivals.put(TelemetryCame(value))
        elif kind == "idle":
            self._arrivals.put(rank)

    def _end(self, rank: int, error: Any) -> None:
        host, now = self._hosts.get(rank, "?"), time.monotonic()
        if error is None:
            self._arrivals.put(Reply(rank, host, now))
            return
        # Not all that ipyparallel ends a request with comes from the rank and has these.
        name = getattr(error, "ename", None) or type(error).__name__
        lines = tuple(str(getattr(error, "traceback", None) or "").splitlines())
        evalue = str(getattr(error, "evalue", error))
        self._arrivals.put(Reply(rank, host, now, name, evalue, lines))
