"""`RemoteStorage`: network storages, through clients of pyarrow or fsspec."""

from __future__ import annotations

import errno
import io
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file_entry import FileEntry, changed, shorter
from eai_notebook.io.sources.filesystems import client_of
from eai_notebook.io.sources.retry import with_retries

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC: Final = frozenset("*?[")
_MARKS: Final = (
    "ETag",
    "etag",
    "mtime",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "modification_time",
)
_HTTP: Final = frozenset({"http", "https"})
_CHECK_EVERY_S: Final = 1.0
"""Seconds between checks whether a file has changed."""

_BLOCK: Final = 1 << 20
_MAX_OPEN: Final = 64  # files; each has connection state


class RemoteStorage:
    """The files of one scheme; thread-safe."""

    def __init__(self, scheme: str, host: str) -> None:
        self._scheme = scheme
        self._fs: Any = client_of(scheme, host)
        # pyarrow releases the interpreter lock while it reads from an open file.
        self._arrow: Any = getattr(self._fs, "fs", None) if scheme in {"s3", "gs", "oss"} else None
        self._open: dict[FileEntry, Any] = {}
        self._checked: dict[FileEntry, float] = {}
        self._lock = threading.Lock()

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[FileEntry]:
        """Return the files of a glob, a folder or one name, sorted."""
        path = self._path(pattern)
        # In an HTTP URL, a question mark begins a query.
        magic = _MAGIC - {"?"} if self._scheme in _HTTP else _MAGIC
        if magic & set(path):
            found = [info for info in self._fs.glob(path, detail=True).values() if _is_file(info)]
            if not found:
                raise EaiError(
                    f"no file matches {pattern}",
                    "check bucket, folder and pattern",
                    code="no-files",
                )
            return self._files(found)
        info = self._fs.info(path)
        if _is_file(info):
            return self._files([info])
        found = [
            info
            for info in self._fs.ls(path, detail=True)
            if _is_file(info) and FileEntry(self._url(info["name"]), 0).kind in suffixes
        ]
        if not found:
            raise EaiError(
                f"the folder {pattern} has no {', '.join(sorted(suffixes))} file",
                "name the files with a glob",
                code="no-files",
            )
        return self._files(found)

    def read_into(self, file: FileEntry, memory: NDArray[np.uint8], begin: int) -> int:
        """Read a range of bytes, and check that the file has not changed.

        Raises:
            EaiError: The file has changed, or the server has sent other bytes.
        """
        end = begin + len(memory)
        if not len(memory):
            return 0
        if self._arrow is not None:
            data = self._handle(file).read_at(end - begin, begin)
        elif self._scheme in _HTTP:
            data = self._fs.read_range(file, begin, end)
        else:
            data = self._fs.cat_file(self._path(file.url), start=begin, end=end)
        if len(data) > len(memory):
            raise EaiError(
                f"the server of {file.url} sends {len(data):,} bytes instead of bytes "
                f"{begin}-{end}",
                "copy the file to a storage that supports range requests",
                code="server-without-ranges",
            )
        if self._scheme not in _HTTP:
            self._check_unchanged(file)
        memory[: len(data)] = np.frombuffer(data, np.uint8)
        return len(data)

    def open(self, file: FileEntry) -> IO[bytes]:
        """Return a stream that reads by `read_into`."""
        return cast("IO[bytes]", io.BufferedReader(_Ranges(self, file), _BLOCK))

    def _check_unchanged(self, file: FileEntry) -> None:
        """Check that the file has not changed, unless that was checked just before.

        HTTP responses contain the version; other storages need another request.

        Raises:
            EaiError: The file has changed.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._checked.get(file, -_CHECK_EVERY_S) < _CHECK_EVERY_S:
                return
        info = self._fs.info(self._path(file.url))
        _check(file, info.get("size"))
        if file.mark and _mark(info) not in {"", file.mark}:
            raise changed(file)
        with self._lock:
            while len(self._checked) >= _MAX_OPEN:
                self._checked.pop(next(iter(self._checked)))
            self._checked[file] = now

    def _handle(self, file: FileEntry) -> Any:
        """Return an open file; opening costs a request, so open files are kept."""
        with self._lock:
            handle = self._open.get(file)
        if handle is None:
            handle = self._opened(file)
            with self._lock:
                while len(self._open) >= _MAX_OPEN:
                    # It is closed when the last reader has finished.
                    self._open.pop(next(iter(self._open)))
                handle = self._open.setdefault(file, handle)
        return handle

    def _opened(self, file: FileEntry) -> Any:
        handle = self._arrow.open_input_file(self._path(file.url))
        _check(file, handle.size())
        return handle

    def _files(self, infos: list[dict[str, Any]]) -> list[FileEntry]:
        found = []
        for info in infos:
            size = info.get("size")
            url = self._url(info["name"])
            if size is None:
                raise EaiError(
                    f"the server of {url} does not send the file's size",
                    "copy the file to a storage that supports range requests",
                    code="server-without-ranges",
                )
            found.append(FileEntry(url, int(size), _mark(info)))
        return sorted(found, key=lambda file: file.url)

    def _path(self, url: str) -> str:
        """Return the client's name of a file."""
        if self._scheme in _HTTP:
            return url
        rest = url[len(self._scheme) + 3 :]
        if self._scheme in {"hdfs", "webhdfs"}:
            return "/" + rest.partition("/")[2]
        return rest

    def _url(self, path: str) -> str:
        """Return the URL of a file, given the client's name."""
        if "://" in path:
            return path
        host = getattr(self._fs, "eai_host", "")
        return f"{self._scheme}://{host}{path}"


def _is_file(info: dict[str, Any]) -> bool:
    return str(info.get("type")) == "file"


def _mark(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in _MARKS if info.get(name)), "")


def _check(file: FileEntry, size: int | None) -> None:
    if size is not None and size != file.size:
        raise changed(file)


class _Ranges(io.RawIOBase):
    """A file as a raw stream of range reads."""

    def __init__(self, storage: RemoteStorage, file: FileEntry) -> None:
        super().__init__()
        self._storage = storage
        self._file = file
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"negative offset {base + offset}")
        self._offset = base + offset
        return self._offset

    def readinto(self, memory: Any) -> int:
        """Read the next bytes, up to the end of the file."""
        view = np.frombuffer(memory, np.uint8)
        file, offset = self._file, self._offset
        count = max(min(len(view), file.size - offset), 0)
        got = with_retries(lambda: self._storage.read_into(file, view[:count], offset), file.url)
        if got != count:
            raise shorter(file)
        self._offset += count
        return count
