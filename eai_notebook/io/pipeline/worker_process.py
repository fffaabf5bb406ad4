"""The program of a reader process: loads parts and sends their rows back.

Rows are in anonymous shared memory, which the system frees when its last user is gone. The process
ends with its parent: it waits for the end of a pipe that the parent holds open. It is in a session of
its own and does not receive the parent's interrupts.
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
    """Offset, type and shape of a column in shared memory."""

    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WorkerReply:
    """The result of a part: its rows, in shared memory that is sent with it, or an error.

    Attributes:
        slots: Columns in shared memory.
        others: Columns of objects, such as text, which are pickled.
        size: Bytes of shared memory.
        bad: The number of bad rows.
        first_bad: The first bad row, see `Loaded`.
        fetch_s: Seconds of fetching.
        parse_s: Seconds of parsing.
        cpu_s: Processor seconds of both.
        error: The error; if it is set, there are no rows.
    """

    slots: dict[str, ArraySlot]
    others: Columns
    size: int = 0
    bad: int = 0
    first_bad: int = 0
    fetch_s: float = 0.0
    parse_s: float = 0.0
    cpu_s: float = 0.0
    error: EaiError | None = None


def main(channel: int, life: int) -> None:
    """Load parts until the parent closes the channel or ends."""
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
    with socket.socket(fileno=channel) as link:
        sys.path[:] = pickle.loads(receive(link))  # noqa: S301 - from the parent alone
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                message = receive(link)
                reply, memory = _load_part(message)
                send(link, pickle.dumps(reply), memory)
                if memory is not None:
                    os.close(memory)


def send(link: socket.socket, message: bytes, memory: int | None = None) -> None:
    """Send one message, with a file descriptor if there is one."""
    length = _LENGTH.pack(len(message))
    if memory is None:
        link.sendall(length)
    else:
        socket.send_fds(link, [length], [memory])
    link.sendall(message)


def receive(link: socket.socket) -> bytes:
    """Return one message.

    Raises:
        EOFError: The other end is closed.
    """
    return receive_all(link, _LENGTH.unpack(receive_all(link, _LENGTH.size))[0])


def receive_all(link: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes.

    Raises:
        EOFError: The other end is closed.
    """
    data = bytearray()
    while len(data) < count:
        more = link.recv(min(count - len(data), 1 << 20))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def receive_memory(link: socket.socket) -> tuple[bytes, list[int]]:
    """Return one message and the descriptors that were sent with it.

    Raises:
        EOFError: The other end is closed.
    """
    header, memory, _, _ = socket.recv_fds(link, _LENGTH.size, 1)
    if not header:
        raise EOFError
    try:
        header += receive_all(link, _LENGTH.size - len(header))
        return receive_all(link, _LENGTH.unpack(header)[0]), memory
    except EOFError:
        for descriptor in memory:
            os.close(descriptor)
        raise


def columns_of(reply: WorkerReply, memory: list[int]) -> Columns:
    """Return the rows of a reply; their memory is freed with the last column."""
    columns = dict(reply.others)
    # (Without rows there is no memory.)
    block = np.empty(0, np.uint8)
    if memory:
        # The mapping outlives its descriptor, and the arrays refer to the mapping.
        block = np.frombuffer(mmap.mmap(memory[0], reply.size), np.uint8)
        os.close(memory[0])
    for name, slot in reply.slots.items():
        size = int(np.prod(slot.shape, dtype=np.int64)) * slot.dtype.itemsize
        flat = block[slot.begin : slot.begin + size]
        columns[name] = flat.view(slot.dtype).reshape(slot.shape)
    return columns


def _end_with_parent(life: int) -> None:
    """Wait for the end of a pipe that only the parent holds open."""
    os.read(life, 1)
    os._exit(1)


def _load_part(message: bytes) -> tuple[WorkerReply, int | None]:
    cpu, began = time.process_time(), time.perf_counter()
    try:
        part: Part = pickle.loads(message)  # noqa: S301 - from the parent alone
        fetched = part.fetch()
        fetched_at = time.perf_counter()
        loaded = part.parse(fetched)
        parsed_at = time.perf_counter()
    except EaiError as error:
        return WorkerReply({}, {}, error=error), None
    except BaseException as error:  # noqa: BLE001 - raised by the parent
        traceback.print_exc()
        return WorkerReply({}, {}, error=_function_error(error)), None
    slots, size = _layout_of(loaded)
    memory = _share_columns(loaded, slots, size) if size else None
    others = {name: column for name, column in loaded.columns.items() if name not in slots}
    reply = WorkerReply(
        slots=slots,
        others=others,
        size=size,
        bad=loaded.bad,
        first_bad=loaded.first_bad,
        fetch_s=fetched_at - began,
        parse_s=parsed_at - fetched_at,
        cpu_s=time.process_time() - cpu,
    )
    return reply, memory


def _layout_of(loaded: Loaded) -> tuple[dict[str, ArraySlot], int]:
    """Return the slot of each column in shared memory, and the size of the memory."""
    slots, size = {}, 0
    for name, column in loaded.columns.items():
        if not column.dtype.hasobject:
            slots[name] = ArraySlot(size, column.dtype, column.shape)
            size += -(-column.nbytes // _ALIGNMENT) * _ALIGNMENT
    return slots, size


def _share_columns(loaded: Loaded, slots: dict[str, ArraySlot], size: int) -> int:
    """Copy the columns to shared memory and return its descriptor."""
    memory = os.memfd_create("eai-rows")
    os.ftruncate(memory, size)
    block: NDArray[np.uint8] = np.frombuffer(mmap.mmap(memory, size), np.uint8)
    for name, slot in slots.items():
        column = loaded.columns[name]
        target = block[slot.begin : slot.begin + column.nbytes].view(slot.dtype)
        target.reshape(slot.shape)[...] = column
    return memory


def _function_error(error: BaseException) -> EaiError:
    """Return the error about an exception in the user's function, with file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f", line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    return EaiError(
        f"a reader process failed with {type(error).__name__}: {error}{where}",
        "call the function on that file alone; the full traceback is in the log",
        code="reader-process-failed",
    )
