"""Decompress text files once into an unnamed temporary file.

All ranks must agree on the number of steps before the first one, so compressed files have to
be unpacked when they are opened. What comes out is kept: then they are shuffled, read in
ranges and gone on with like plain ones, and a second epoch costs no more than theirs. The file
has no name from the beginning, so that nothing is left behind however the process ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file import COMPRESSED, File
from eai_notebook.io.sources.storage_errors import describe_fault, is_storage_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

_BLOCK: Final = 4 << 20
_GZIP: Final = 31  # zlib's word for a window of 32 KiB and a gzip header
_AT_ONCE: Final = 4  # files; unpacking leaves the interpreter alone
_LOOK_AGAIN: Final = 64 << 20  # bytes after which it is asked again how much room is left
_LEFT_FREE: Final = 256 << 20  # bytes that unpacking leaves to others, at most a tenth of all


@dataclass(frozen=True)
class Unpacked(File):
    """A compressed file's content; `url` is still the compressed file's, for messages."""

    descriptor: int = -1

    def __reduce__(self) -> tuple[Any, ...]:
        raise EaiError(
            f"{self.url} was unpacked for this process alone",
            "open it in the other too",
            code="decompressed-elsewhere",
        )

    @property
    def is_local(self) -> bool:
        """It lies on this host now."""
        return True

    def read_into(self, memory: NDArray[np.uint8], begin: int = 0) -> None:
        """Fill `memory` with the bytes from `begin` on."""
        got = 0
        while got < len(memory):
            more = os.preadv(self.descriptor, [memory[got:].data], begin + got)
            if not more:
                raise EaiError(
                    f"{self.url} was unpacked too short", "open it again", code="file-changed"
                )
            got += more

    def open(self) -> IO[bytes]:
        """Return a stream with a place of its own."""
        # Descriptors that were duplicated share a place; one opened by its number does not.
        return open(f"/proc/self/fd/{self.descriptor}", "rb")  # noqa: PTH123

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def is_compressed(file: File) -> bool:
    """Return whether a file's bytes are not its rows.

    Raises:
        EaiError: It is packed in a way that is not read here.
    """
    if file.suffix in {".zip", ".xz"}:
        raise EaiError(
            f"{file} is a {file.suffix} file",
            "unpack it, or pack it as .gz or .zst",
            code="compression-unsupported",
        )
    return file.suffix in COMPRESSED


def share_whole(files: Sequence[File], rank: int, size: int) -> list[File]:
    """Return a rank's files, in order: the largest go first, each to who has least.

    Raises:
        EaiError: There are fewer files than ranks.

    Examples:
        >>> files = [File(name, size) for name, size in [("a", 5), ("b", 4), ("c", 3), ("d", 2)]]
        >>> [file.url for file in share_whole(files, 0, 2)]
        ['a', 'd']
    """
    if len(files) < size:
        raise EaiError(
            f"{len(files)} compressed files cannot be shared out among {size} ranks",
            "unpack them, pack them as more files, or take fewer ranks",
            code="too-few-files",
        )
    loads = [0] * size
    mine = set()
    for place in sorted(range(len(files)), key=lambda place: -files[place].size):
        least = loads.index(min(loads))
        loads[least] += max(files[place].size, 1)
        if least == rank:
            mine.add(place)
    return [file for place, file in enumerate(files) if place in mine]


def unpack_all(files: Sequence[File]) -> list[File]:
    """Unpack some files, several at once, in order."""
    with ThreadPoolExecutor(_AT_ONCE, "eai-unpack") as pool:
        return list(pool.map(unpack, files))


def unpack(file: File) -> Unpacked:
    """Unpack a file into the folder for temporary files (`TMPDIR`), as a stream.

    Raises:
        EaiError: It is cut off or damaged, or there is no room.
    """
    with tempfile.TemporaryFile(prefix="eai-") as kept:
        size = looked = 0
        _check_room(file, kept)
        with file.open() as packed:
            counted = _Counted(packed, file)
            for block in _unpacked(counted, file):
                size += len(block)
                _write(kept, block, file)
                if size - looked > _LOOK_AGAIN:
                    looked = size
                    _check_room(file, kept)
        kept.flush()
        return Unpacked(file.url, size, file.mark, os.dup(kept.fileno()))


def beginning_of(file: File, size: int) -> bytes:
    """Return the first bytes of a compressed file's content, without unpacking the rest.

    Raises:
        EaiError: It is damaged there.
    """
    found = bytearray()
    with file.open() as packed:
        for block in _unpacked(_Counted(packed, file), file):
            found += block
            if len(found) >= size:
                break
    return bytes(found[:size])


def _write(kept: IO[bytes], block: bytes | pa.Buffer, file: File) -> None:
    try:
        kept.write(block)
        kept.flush()
    except OSError as error:
        raise _no_room(file, str(error.strerror)) from error


def _check_room(file: File, kept: IO[bytes]) -> None:
    """Stop before the disk is full: what is packed may be a thousand times as large in plain.

    Raises:
        EaiError: There is hardly any room left.
    """
    room = os.fstatvfs(kept.fileno())
    free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if free < min(_LEFT_FREE, whole // 10):
        raise _no_room(file, f"only {free >> 20:,} MB are free there")


def _no_room(file: File, why: str) -> EaiError:
    return EaiError(
        f"{file} cannot be unpacked into {tempfile.gettempdir()} ({why})",
        "set TMPDIR to a folder with room, or unpack the files",
        code="decompress-no-space",
    )


@dataclass
class _Counted:
    """A stream that knows how far it is, and tells its faults as ours."""

    stream: IO[bytes]
    file: File
    offset: int = 0

    def read(self, count: int) -> bytes:
        try:
            block = self.stream.read(count)
        except Exception as error:
            if is_storage_fault(error):
                raise describe_fault(error, self.file.url, 1) from error
            raise
        self.offset += len(block)
        return block


def _unpacked(packed: _Counted, file: File) -> Iterator[bytes | pa.Buffer]:
    """Yield the content, block by block."""
    if file.suffix == ".gz":
        yield from _gunzipped(packed, file)
        return
    kind = COMPRESSED[file.suffix]
    try:
        with pa.CompressedInputStream(pa.PythonFile(_Readable(packed), "r"), kind) as stream:
            # (`read` makes its bytes first, and loses them where it fails.)
            while block := stream.read_buffer(_BLOCK):
                yield block
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, packed.offset, str(error)) from error
    if packed.offset < file.size:
        raise _damaged(file, packed.offset, "what follows is not compressed")


def _gunzipped(packed: _Counted, file: File) -> Iterator[bytes]:
    """Yield a gzip file's content, all its members."""
    member = zlib.decompressobj(_GZIP)
    rest, begun = b"", False
    while True:
        block = rest or packed.read(_BLOCK)
        rest = b""
        if not block:
            break
        begun = True
        try:
            while block:
                content = member.decompress(block, _BLOCK)
                if content:
                    yield content
                block = member.unconsumed_tail
        except zlib.error as error:
            raise _damaged(file, packed.offset, str(error)) from error
        if member.eof:
            # Zeros after the last member are padding, as of tapes.
            rest = member.unused_data.lstrip(b"\0")
            member, begun = zlib.decompressobj(_GZIP), False
    if begun or file.size == 0:
        raise _damaged(file, packed.offset, "it ends within its data")


def _damaged(file: File, offset: int, why: str) -> EaiError:
    return EaiError(
        f"{file} cannot be unpacked, by byte {offset:,} of {file.size:,}: {why}",
        "copy the file again, or leave it out",
        code="compressed-file-damaged",
    )


@dataclass
class _Readable:
    """What pyarrow wants of a file."""

    packed: _Counted
    closed: bool = False

    def read(self, count: int) -> bytes:
        return self.packed.read(count)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
