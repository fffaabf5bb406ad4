"""Exchange arrays between ranks by messages, by name, on a thread of its own.

Each rank sends its part of an exchange to every other rank as soon as it has it, with a header
that names the exchange; an exchange is complete when all parts of its name are there. So
no order needs to be agreed on, and no call of MPI's waits for a peer: a release, or the death of a
peer, ends every exchange in flight.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError, ExchangeFailed, ExchangeReleased

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from eai_notebook.collective.backend import Missing

_HEADER: Final = 1
_CONTENT: Final = 2
"""Tags of the two messages of a part. Both come in the order in which they were sent."""
_PIECE: Final = 1 << 30
"""Bytes of one message; MPI counts them in 31 bits."""
_RELEASED: Final = b"released"
_SPIN_S: Final = 100e-6
_LONGEST_PAUSE_S: Final = 1e-3
_DRAIN_S: Final = 0.5
"""How long a rank that leaves waits for peers to receive its parts of earlier exchanges."""
_MISSING_S: Final = 10.0

_unfinished: list[Any] = []
"""Messages of rings that were left, which MPI may still read: their buffers must live."""


@dataclass(frozen=True)
class Part:
    """One rank's part of an exchange.

    Attributes:
        kind: The operation; the same on all ranks.
        shape: The shape that all ranks must have, None for an axis whose length may differ.
        array: The numbers; empty where the others do not need this rank's.
    """

    kind: str
    shape: tuple[int | None, ...]
    array: np.ndarray

    def header(self, name: str) -> bytes:
        """Return the header of the message that carries this part of exchange `name`."""
        array = self.array
        return json.dumps([name, self.kind, self.shape, array.dtype.name, array.shape]).encode()


@dataclass
class Request:
    """An exchange that this rank takes part in.

    Attributes:
        name: The same on all ranks.
        sent: For each rank the part that it gets from this one; one for all if all get the same.
        combine: Makes the result of the parts, in rank order.
    """

    name: str
    sent: list[Part]
    combine: Callable[[list[Part]], Any]
    on_done: Callable[[], None] = lambda: None
    result: Any = None
    error: EaiError | None = None
    done: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)

    def finish(self, result: Any = None, error: EaiError | None = None) -> None:
        """End with a result or an error."""
        self.result, self.error = result, error
        self.done.set()
        self.on_done()


@dataclass
class _Incoming:
    """A part on its way from a peer."""

    name: str
    source: int
    part: Part
    pieces: list[MPI.Request]


class MessageExchange:
    """One ring's exchanges; `comm` belongs to it alone.

    Args:
        comm: The ring's communicator, which nothing else uses.
        report: Called with tensors that a rank has waited for 10 s for, every 10 s.
    """

    def __init__(self, comm: MPI.Intracomm, report: Callable[[Missing], None]) -> None:
        self._comm, self.rank, self._size = comm, comm.rank, comm.size
        self._report = report
        self._changed = threading.Condition()
        self._new: deque[Request] = deque()
        self._waiting: list[Request] = []
        self._arrived: dict[tuple[str, int], deque[Part]] = defaultdict(deque)
        self._coming: deque[_Incoming] = deque()
        self._sends: list[tuple[MPI.Request, Any]] = []
        self._left: set[int] = set()  # peers that have left the ring
        self._ends = 0.0
        self._leaving = False
        self._drain_s = _DRAIN_S
        self._error: EaiError | None = None
        self._reported = 0.0
        self._thread = threading.Thread(target=self._run, name="eai-exchange", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Begin an exchange; it ends at once if the ring is broken."""
        with self._changed:
            if self._error is None and not self._leaving:
                self._new.append(request)
                self._changed.notify()
                return
        request.finish(error=self._error or ExchangeReleased())

    def leave(self, drain_s: float = _DRAIN_S) -> None:
        """End all exchanges, here and on the peers; any thread may call it."""
        with self._changed:
            self._leaving, self._drain_s = True, drain_s
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(drain_s + 5.0)

    # -- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        error: EaiError = ExchangeReleased()
        idle_since = time.monotonic()
        try:
            while True:
                with self._changed:
                    while not (self._new or self._waiting or self._sends or self._leaving):
                        self._changed.wait()
                    new = [self._new.popleft() for _ in range(len(self._new))]
                    if self._leaving:
                        self._waiting += new
                        break
                for request in new:
                    self._begin(request)
                if self._work() or new:
                    idle_since = time.monotonic()
                else:
                    _pause(time.monotonic() - idle_since)
                    self._report_missing()
        except ExchangeReleased as released:
            error = released
        except Exception as failed:  # noqa: BLE001 -- MPI's errors, of which every exchange hears
            error = ExchangeFailed(cause=failed)
        self._end(error)

    def _begin(self, request: Request) -> None:
        """Send this rank's parts."""
        request.began = time.monotonic()
        own = request.sent[self.rank % len(request.sent)]
        self._arrived[request.name, self.rank].append(own)
        self._waiting.append(request)
        for peer in range(self._size):
            if peer != self.rank:
                self._send(peer, request.sent[peer % len(request.sent)], request.name)

    def _send(self, peer: int, part: Part, name: str) -> None:
        header = part.header(name)
        self._sends.append((self._comm.Isend(_bytes(header), dest=peer, tag=_HEADER), header))
        for piece in _pieces(part.array):
            self._sends.append((self._comm.Isend(_bytes(piece), dest=peer, tag=_CONTENT), piece))

    def _work(self) -> bool:
        """Move messages and finish what is complete; return whether anything happened."""
        moved = self._receive_headers()
        moved |= self._receive_contents()
        self._sends = [send for send in self._sends if not send[0].Test()]
        complete = [request for request in self._waiting if self._is_complete(request)]
        for request in complete:
            self._waiting.remove(request)
            self._finish(request)
        if self._left and not self._may_complete():
            raise ExchangeReleased
        return moved or bool(complete)

    def _may_complete(self) -> bool:
        """Return whether parts that a peer has sent before it left are still on their way."""
        coming = any(part.source in self._left for part in self._coming)
        return coming and time.monotonic() < self._ends

    def _receive_headers(self) -> bool:
        from mpi4py import MPI

        status, moved = MPI.Status(), False
        while self._comm.Iprobe(source=MPI.ANY_SOURCE, tag=_HEADER, status=status):
            source, moved = status.Get_source(), True
            header = bytearray(status.Get_count(MPI.BYTE))
            self._comm.Recv(_bytes(header), source=source, tag=_HEADER)
            if header == _RELEASED:
                self._left.add(source)
                self._ends = time.monotonic() + 2 * _DRAIN_S
                continue
            name, kind, shape, dtype, own_shape = json.loads(header)
            part = Part(kind, tuple(shape), np.empty(own_shape, _dtype(dtype)))
            pieces = [
                self._comm.Irecv(_bytes(piece), source=source, tag=_CONTENT)
                for piece in _pieces(part.array)
            ]
            self._coming.append(_Incoming(name, source, part, pieces))
        return moved

    def _receive_contents(self) -> bool:
        """Hand on the parts that are whole, in the order in which each peer has sent them."""
        moved, held = False, set()
        for _ in range(len(self._coming)):
            coming = self._coming.popleft()
            coming.pieces = [piece for piece in coming.pieces if not piece.Test()]
            if coming.pieces or coming.source in held:
                held.add(coming.source)
                self._coming.append(coming)
            else:
                self._arrived[coming.name, coming.source].append(coming.part)
                moved = True
        return moved

    def _is_complete(self, request: Request) -> bool:
        return all(self._arrived.get((request.name, rank)) for rank in range(self._size))

    def _finish(self, request: Request) -> None:
        parts = []
        for rank in range(self._size):
            queue = self._arrived[request.name, rank]
            parts.append(queue.popleft())
            if not queue:
                del self._arrived[request.name, rank]
        try:
            _check(request.name, parts)
            request.finish(request.combine(parts))
        except EaiError as error:
            request.finish(error=error)
        except Exception as error:  # noqa: BLE001 -- one exchange's fault ends no other
            request.finish(error=ExchangeFailed(f"cannot exchange `{request.name}`", cause=error))

    def _report_missing(self) -> None:
        now = time.monotonic()
        if now - self._reported < _MISSING_S:
            return
        missing: dict[int, list[str]] = defaultdict(list)
        for request in self._waiting:
            if now - request.began >= _MISSING_S:
                for rank in range(self._size):
                    if not self._arrived.get((request.name, rank)):
                        missing[rank].append(request.name)
        if missing:
            self._reported = now
            self._report({rank: tuple(names) for rank, names in missing.items()})

    def _end(self, error: EaiError) -> None:
        """Notify the peers, and end every exchange with `error`."""
        with self._changed:
            self._error = error
            waiting = [*self._waiting, *self._new]
            self._new.clear()
        for request in waiting:
            request.finish(error=error)
        try:
            if self._leaving:
                self._drain()
                for peer in range(self._size):
                    if peer != self.rank:
                        send = self._comm.Isend(_bytes(_RELEASED), dest=peer, tag=_HEADER)
                        self._sends.append((send, _RELEASED))
        except Exception:  # noqa: BLE001, S110 -- a dead peer hears of nothing, and need not
            pass
        _unfinished.extend([*self._sends, *self._coming, self._comm])

    def _drain(self) -> None:
        """Wait for peers that are still receiving this rank's parts of complete exchanges."""
        until = time.monotonic() + self._drain_s
        while time.monotonic() < until:
            self._sends = [send for send in self._sends if not send[0].Test()]
            if not self._sends:
                return
            time.sleep(_LONGEST_PAUSE_S)


def _check(name: str, parts: list[Part]) -> None:
    """Raise if the ranks' parts do not fit each other.

    Raises:
        EaiError: Their kinds, dtypes or shapes differ; on all ranks alike.
    """
    first = parts[0]
    for rank, part in enumerate(parts):
        for what, mine, theirs in (
            ("calls", first.kind, part.kind),
            ("has dtype", first.array.dtype.name, part.array.dtype.name),
            ("has shape", first.shape, part.shape),
        ):
            if mine != theirs:
                raise EaiError(
                    f"the ranks cannot exchange `{name}`: rank 0 {what} {mine}, "
                    f"and rank {rank} {theirs}",
                    "give it the same shape and dtype on all ranks",
                    code="exchange-mismatch",
                )


def _dtype(name: str) -> np.dtype[Any]:
    """Return the dtype `name`, which may be one of TensorFlow's own."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    found: np.dtype[Any] = np.dtype(name)
    return found


def _bytes(content: Any) -> list[Any]:
    from mpi4py import MPI

    return [content, MPI.BYTE]


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    """Return the bytes of a contiguous array as views that fit into one message each."""
    flat = array.reshape(-1).view(np.uint8)
    return [flat[first : first + _PIECE] for first in range(0, len(flat), _PIECE)]


def _pause(waited: float) -> None:
    """Let others use the processor, the longer the longer one has waited."""
    time.sleep(0 if waited < _SPIN_S else min(waited / 8, _LONGEST_PAUSE_S))
