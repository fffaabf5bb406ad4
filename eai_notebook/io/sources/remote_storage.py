"""Network storages, through pyarrow's clients or fsspec's."""

from __future__ import annotations

import errno
import io
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file import File, changed
from eai_notebook.io.sources.filesystems import client_of

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
_ASKED_EVERY_S: Final = 1.0
"""Seconds after which a storage is asked again whether a file is what it was."""
_BLOCK: Final = 1 << 20
_KEPT: Final = 64  # open files: each has its own connection state


class RemoteStorage:
    """The files of one scheme; may be used from many threads."""

    def __init__(self, scheme: str, place: str) -> None:
        self._scheme = scheme
        self._fs: Any = client_of(scheme, place)
        # pyarrow reads ranges of an open file without holding the interpreter.
        self._arrow: Any = getattr(self._fs, "fs", None) if scheme in {"s3", "gs", "oss"} else None
        self._open: dict[File, Any] = {}
        self._asked: dict[File, float] = {}
        self._lock = threading.Lock()

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[File]:
        """Return the files of a glob, a folder or one name, sorted."""
        path = self._path(pattern)
        # In a web address, a question mark begins a query.
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
            if _is_file(info) and File(self._url(info["name"]), 0).kind in suffixes
        ]
        if not found:
            raise EaiError(
                f"folder {pattern} holds no {', '.join(sorted(suffixes))} file",
                "name the files with a glob",
                code="no-files",
            )
        return self._files(found)

    def read_into(self, file: File, memory: NDArray[np.uint8], begin: int) -> int:
        """Ask for a range of bytes of the file as it was found.

        Raises:
            EaiError: It has been replaced since, or its server gives other bytes than those.
        """
        end = begin + len(memory)
        if not len(memory):
            return 0
        if self._arrow is not None:
            text = self._handle(file).read_at(end - begin, begin)
        elif self._scheme in _HTTP:
            text = self._fs.read_range(file, begin, end)
        else:
            text = self._fs.cat_file(self._path(file.url), start=begin, end=end)
        if len(text) > len(memory):
            raise EaiError(
                f"{file.url}: its server answers a request for bytes {begin}-{end} with "
                f"{len(text):,} bytes",
                "copy the file to a storage that serves ranges",
                code="server-without-ranges",
            )
        if self._scheme not in _HTTP:
            self._ask_again(file)
        memory[: len(text)] = np.frombuffer(text, np.uint8)
        return len(text)

    def open(self, file: File) -> IO[bytes]:
        """Return a stream of which every part is read as `read_into` reads it."""
        return cast("IO[bytes]", io.BufferedReader(_Ranges(file), _BLOCK))

    def _ask_again(self, file: File) -> None:
        """Ask whether the file is still what it was, if that was not asked just now.

        An HTTP answer says it by itself; of other storages it costs a request.

        Raises:
            EaiError: It is not.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._asked.get(file, -_ASKED_EVERY_S) < _ASKED_EVERY_S:
                return
        info = self._fs.info(self._path(file.url))
        _check(file, info.get("size"))
        if file.mark and _mark(info) not in {"", file.mark}:
            raise changed(file)
        with self._lock:
            while len(self._asked) >= _KEPT:
                self._asked.pop(next(iter(self._asked)))
            self._asked[file] = now

    def _handle(self, file: File) -> Any:
        """Return the file, open: opening costs a request, so it is done once."""
        with self._lock:
            handle = self._open.get(file)
        if handle is None:
            handle = self._opened(file)
            with self._lock:
                while len(self._open) >= _KEPT:
                    # Closed when the last reader lets go of it.
                    self._open.pop(next(iter(self._open)))
                handle = self._open.setdefault(file, handle)
        return handle

    def _opened(self, file: File) -> Any:
        handle = self._arrow.open_input_file(self._path(file.url))
        _check(file, handle.size())
        return handle

    def _files(self, infos: list[dict[str, Any]]) -> list[File]:
        found = []
        for info in infos:
            size = info.get("size")
            url = self._url(info["name"])
            if size is None:
                raise EaiError(
                    f"{url}: its server does not tell its size",
                    "copy the file to a storage that serves ranges",
                    code="server-without-ranges",
                )
            found.append(File(url, int(size), _mark(info)))
        return sorted(found, key=lambda file: file.url)

    def _path(self, url: str) -> str:
        """Return what the client calls a file."""
        if self._scheme in _HTTP:
            return url
        rest = url[len(self._scheme) + 3 :]
        if self._scheme in {"hdfs", "webhdfs"}:
            return "/" + rest.partition("/")[2]
        return rest

    def _url(self, path: str) -> str:
        """Return the URL of what the client calls a file."""
        if "://" in path:
            return path
        place = getattr(self._fs, "eai_place", "")
        return f"{self._scheme}://{place}{path}"


def _is_file(info: dict[str, Any]) -> bool:
    return str(info.get("type")) == "file"


def _mark(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in _MARKS if info.get(name)), "")


def _check(file: File, size: int | None) -> None:
    if size is not None and size != file.size:
        raise changed(file)


class _Ranges(io.RawIOBase):
    """A file as a stream, read range by range."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, memory: Any) -> int:
        """Read the next bytes, as many as there are."""
        view = np.frombuffer(memory, np.uint8)
        count = max(min(len(view), self._file.size - self._at), 0)
        self._file.read_into(view[:count], self._at)
        self._at += count
        return count
