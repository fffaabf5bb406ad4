"""Decompress text files once, into an unnamed temporary file.

All ranks must agree on the number of steps before the first one, so compressed files are decompressed
when they are opened. The content is kept, so it can be shuffled and read in ranges like a plain file,
also in further epochs. The file has no name, so the system frees it when the process ends.
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
from eai_notebook.io.sources.file import File
from eai_notebook.io.sources.file_entry import COMPRESSED
from eai_notebook.io.sources.storage_errors import describe_fault, is_storage_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

_BLOCK: Final = 4 << 20
_GZIP: Final = 31  # zlib's wbits for a window of 32 KiB and a gzip header
_PARALLEL: Final = 4  # files; decompression releases the interpreter lock
_CHECK_SPACE_EVERY: Final = 64 << 20  # bytes
_MIN_FREE: Final = 256 << 20  # bytes of the disk that stay free; at most a tenth of the disk


@dataclass(frozen=True)
class Decompressed(File):
    """The content of a compressed file; `url` is that of the compressed file, for messages."""

    descriptor: int = -1

    def __reduce__(self) -> tuple[Any, ...]:
        raise EaiError(
            f"{self.url} was decompressed for this process only",
            "open it in the other process too",
            code="decompressed-elsewhere",
        )

    @property
    def is_local(self) -> bool:
        """True: the content is on this host."""
        return True

    def read_into(self, memory: NDArray[np.uint8], begin: int = 0) -> None:
        """Fill `memory` with the bytes from `begin` on."""
        done = 0
        while done < len(memory):
            count = os.preadv(self.descriptor, [memory[done:].data], begin + done)
            if not count:
                raise EaiError(
                    f"the decompressed content of {self.url} became shorter",
                    "open it again",
                    code="file-changed",
                )
            done += count

    def open(self) -> IO[bytes]:
        """Return a stream with an offset of its own."""
        # Duplicated descriptors share an offset; one that is opened through /proc does not.
        return open(f"/proc/self/fd/{self.descriptor}", "rb")  # noqa: PTH123

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def is_compressed(file: File) -> bool:
    """Return whether a file is compressed, by its suffix.

    Raises:
        EaiError: The compression is not supported.
    """
    if file.suffix in {".zip", ".xz"}:
        raise EaiError(
            f"{file} is a {file.suffix} file, which is not supported",
            "decompress it, or compress it as .gz or .zst",
            code="compression-unsupported",
        )
    return file.suffix in COMPRESSED


def share_whole(files: Sequence[File], rank: int, size: int) -> list[File]:
    """Return a rank's files, in order: largest first, each goes to the rank with the fewest bytes.

    Raises:
        EaiError: There are fewer files than ranks.

    Examples:
        >>> files = [File(name, size) for name, size in [("a", 5), ("b", 4), ("c", 3), ("d", 2)]]
        >>> [file.url for file in share_whole(files, 0, 2)]
        ['a', 'd']
    """
    if len(files) < size:
        raise EaiError(
            f"{size} ranks need at least {size} files that cannot be split, there are {len(files)}",
            "decompress them, write more files, or use fewer ranks",
            code="too-few-files",
        )
    loads = [0] * size
    mine = set()
    for index in sorted(range(len(files)), key=lambda index: -files[index].size):
        receiver = loads.index(min(loads))
        loads[receiver] += max(files[index].size, 1)
        if receiver == rank:
            mine.add(index)
    return [file for index, file in enumerate(files) if index in mine]


def decompress_all(files: Sequence[File]) -> list[File]:
    """Decompress files, several in parallel; the result is in order."""
    with ThreadPoolExecutor(_PARALLEL, "eai-decompress") as pool:
        return list(pool.map(decompress, files))


def decompress(file: File) -> Decompressed:
    """Decompress a file, block by block, into the folder for temporary files (`TMPDIR`).

    Raises:
        EaiError: It is cut off or damaged, or the disk is full.
    """
    with tempfile.TemporaryFile(prefix="eai-") as target:
        size = checked = 0
        _check_space(file, target)
        with file.open() as compressed:
            counted = _CountedStream(compressed, file)
            for block in _blocks(counted, file):
                size += len(block)
                _write(target, block, file)
                if size - checked > _CHECK_SPACE_EVERY:
                    checked = size
                    _check_space(file, target)
        target.flush()
        return Decompressed(file.url, size, file.mark, os.dup(target.fileno()))


def beginning_of(file: File, size: int) -> bytes:
    """Return the first bytes of a compressed file's content, without decompressing the rest.

    Raises:
        EaiError: These bytes are damaged.
    """
    content = bytearray()
    with file.open() as compressed:
        for block in _blocks(_CountedStream(compressed, file), file):
            content += block
            if len(content) >= size:
                break
    return bytes(content[:size])


def _write(target: IO[bytes], block: bytes | pa.Buffer, file: File) -> None:
    try:
        target.write(block)
        target.flush()
    except OSError as error:
        raise _no_space(file, str(error.strerror)) from error


def _check_space(file: File, target: IO[bytes]) -> None:
    """Stop before the disk is full: the content may be a thousand times as large as the file.

    Raises:
        EaiError: The disk is nearly full.
    """
    disk = os.fstatvfs(target.fileno())
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < min(_MIN_FREE, total // 10):
        raise _no_space(file, f"only {free >> 20:,} MB are free there")


def _no_space(file: File, why: str) -> EaiError:
    return EaiError(
        f"{file} cannot be decompressed into {tempfile.gettempdir()} ({why})",
        "set TMPDIR to a folder with more space, or decompress the files yourself",
        code="decompress-no-space",
    )


@dataclass
class _CountedStream:
    """A stream that counts its bytes, and raises storage errors as `EaiError`."""

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


def _blocks(compressed: _CountedStream, file: File) -> Iterator[bytes | pa.Buffer]:
    """Yield the content, block by block."""
    if file.suffix == ".gz":
        yield from _gzip_blocks(compressed, file)
        return
    kind = COMPRESSED[file.suffix]
    try:
        with pa.CompressedInputStream(pa.PythonFile(_ArrowInput(compressed), "r"), kind) as stream:
            # (`read` allocates its bytes first, and leaks them if it fails.)
            while block := stream.read_buffer(_BLOCK):
                yield block
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, compressed.offset, str(error)) from error
    if compressed.offset < file.size:
        raise _damaged(file, compressed.offset, "other data follows the compressed data")


def _gzip_blocks(compressed: _CountedStream, file: File) -> Iterator[bytes]:
    """Yield a gzip file's content, all its members."""
    member = zlib.decompressobj(_GZIP)
    rest, begun = b"", False
    while True:
        block = rest or compressed.read(_BLOCK)
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
            raise _damaged(file, compressed.offset, str(error)) from error
        if member.eof:
            # Zeros after the last member are padding, as on tapes.
            rest = member.unused_data.lstrip(b"\0")
            member, begun = zlib.decompressobj(_GZIP), False
    if begun or file.size == 0:
        raise _damaged(file, compressed.offset, "it ends within its data")


def _damaged(file: File, offset: int, why: str) -> EaiError:
    return EaiError(
        f"{file} is damaged before byte {offset:,} of {file.size:,}: {why}",
        "copy the file again, or leave it out",
        code="compressed-file-damaged",
    )


@dataclass
class _ArrowInput:
    """The stream as a file object for pyarrow."""

    compressed: _CountedStream
    closed: bool = False

    def read(self, count: int) -> bytes:
        return self.compressed.read(count)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
