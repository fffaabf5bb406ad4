"""The program of a reader process: load parts and send their rows back.

Rows travel in memory without a name: nothing is left of it when the last one who holds it
goes, however that happens. The process ends with its parent, which it learns from a pipe
that ends; in a session of its own, it does not hear the parent's interrupts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import socket
import struct
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.io.part import Columns, Loaded, Part

_LENGTH: Final = struct.Struct("<q")
_ALIGNMENT: Final = 64


@dataclass(frozen=True)
class ArraySlot:
    """Where a column lies in shared memory."""

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WorkerReply:
    """What came of a part: its rows, in memory that is sent beside it, or an error.

    Attributes:
        places: Columns in shared memory.
        others: Columns of objects, such as text, which memory alone cannot hold.
        size: Bytes of shared memory.
        bad: Bad rows.
        first_bad: Where the first of them is.
        fetch_s: Seconds of fetching.
        parse_s: Seconds of parsing.
        cpu_s: Processor seconds of both.
        error: What went wrong, in place of all others.
    """

    places: dict[str, ArraySlot]
    others: Columns
    size: int = 0
    bad: int = 0
    first_bad: int = 0
    fetch_s: float = 0.0
    parse_s: float = 0.0
    cpu_s: float = 0.0
    error: EaiError | None = None


def main(channel: int, life: int) -> None:
    """Answer until the parent is gone or wants no more."""
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
    with socket.socket(fileno=channel) as link:
        sys.path[:] = pickle.loads(receive(link))  # noqa: S301 - from the parent alone
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                text = receive(link)
                answer, memory = _answer(text)
                send(link, pickle.dumps(answer), memory)
                if memory is not None:
                    os.close(memory)


def send(link: socket.socket, text: bytes, memory: int | None = None) -> None:
    """Send one message, and with it a descriptor."""
    length = _LENGTH.pack(len(text))
    if memory is None:
        link.sendall(length)
    else:
        socket.send_fds(link, [length], [memory])
    link.sendall(text)


def receive(link: socket.socket) -> bytes:
    """Return one message.

    Raises:
        EOFError: The other end is gone.
    """
    return receive_all(link, _LENGTH.unpack(receive_all(link, _LENGTH.size))[0])


def receive_all(link: socket.socket, count: int) -> bytes:
    """Return so many bytes.

    Raises:
        EOFError: The other end is gone.
    """
    text = bytearray()
    while len(text) < count:
        more = link.recv(min(count - len(text), 1 << 20))
        if not more:
            raise EOFError
        text += more
    return bytes(text)


def receive_memory(link: socket.socket) -> tuple[bytes, list[int]]:
    """Return one message and the descriptors that came with it.

    Raises:
        EOFError: The other end is gone.
    """
    begun, memory, _, _ = socket.recv_fds(link, _LENGTH.size, 1)
    if not begun:
        raise EOFError
    try:
        begun += receive_all(link, _LENGTH.size - len(begun))
        return receive_all(link, _LENGTH.unpack(begun)[0]), memory
    except EOFError:
        for descriptor in memory:
            os.close(descriptor)
        raise


def columns_of(answer: WorkerReply, memory: list[int]) -> Columns:
    """Return the rows of an answer; their memory goes when the last column does."""
    columns = dict(answer.others)
    # (There is no memory where there are no rows.)
    whole = np.empty(0, np.uint8)
    if memory:
        # The mapping outlives its descriptor, and the arrays keep the mapping.
        whole = np.frombuffer(mmap.mmap(memory[0], answer.size), np.uint8)
        os.close(memory[0])
    for name, place in answer.places.items():
        size = int(np.prod(place.shape, dtype=np.int64)) * place.dtype.itemsize
        flat = whole[place.begin : place.begin + size]
        columns[name] = flat.view(place.dtype).reshape(place.shape)
    return columns


def _end_with_parent(life: int) -> None:
    """Wait for the end of a pipe that only the parent holds open."""
    os.read(life, 1)
    os._exit(1)


def _answer(text: bytes) -> tuple[WorkerReply, int | None]:
    cpu, began = time.process_time(), time.perf_counter()
    try:
        part: Part = pickle.loads(text)  # noqa: S301 - from the parent alone
        fetched = part.fetch()
        got = time.perf_counter()
        loaded = part.parse(fetched)
        parsed = time.perf_counter()
    except EaiError as error:
        return WorkerReply({}, {}, error=error), None
    except BaseException as error:  # noqa: BLE001 - told by the parent
        traceback.print_exc()
        return WorkerReply({}, {}, error=_told(error)), None
    places, size = _placed(loaded)
    memory = _shared(loaded, places, size) if size else None
    others = {name: column for name, column in loaded.columns.items() if name not in places}
    answer = WorkerReply(
        places=places,
        others=others,
        size=size,
        bad=loaded.bad,
        first_bad=loaded.first_bad,
        fetch_s=got - began,
        parse_s=parsed - got,
        cpu_s=time.process_time() - cpu,
    )
    return answer, memory


def _placed(loaded: Loaded) -> tuple[dict[str, ArraySlot], int]:
    """Return where each column goes, and how much memory all take."""
    places, size = {}, 0
    for name, column in loaded.columns.items():
        if not column.dtype.hasobject:
            places[name] = ArraySlot(size, column.dtype, column.shape)
            size += -(-column.nbytes // _ALIGNMENT) * _ALIGNMENT
    return places, size


def _shared(loaded: Loaded, places: dict[str, ArraySlot], size: int) -> int:
    """Return the descriptor of memory that holds the columns."""
    memory = os.memfd_create("eai-rows")
    os.ftruncate(memory, size)
    whole: NDArray[np.uint8] = np.frombuffer(mmap.mmap(memory, size), np.uint8)
    for name, place in places.items():
        column = loaded.columns[name]
        target = whole[place.begin : place.begin + column.nbytes].view(place.dtype)
        target.reshape(place.shape)[...] = column
    return memory


def _told(error: BaseException) -> EaiError:
    """Return what went wrong in someone's own code, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f", line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    return EaiError(
        f"a reader process failed with {type(error).__name__}: {error}{where}",
        "try the function on that file alone; the whole traceback is in the log",
        code="reader-process-failed",
    )
