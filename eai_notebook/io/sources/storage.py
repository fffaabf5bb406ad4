"""`Storage` and the storage of a URL; its client library is imported on first use."""

from __future__ import annotations

import functools
from typing import IO, TYPE_CHECKING, Protocol

from eai_notebook.io.sources.urls import scheme_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eai_notebook.io.sources.file_entry import FileEntry


class Storage(Protocol):
    """One kind of storage. Methods raise the exceptions of its client; `retry` classifies them."""

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[FileEntry]:
        """Return the files of a glob, a folder (those with a suffix) or one name, sorted."""

    def read_into(self, file: FileEntry, memory: NDArray[np.uint8], begin: int) -> int:
        """Fill memory with the bytes from offset `begin` on; return the number of bytes read."""

    def open(self, file: FileEntry) -> IO[bytes]:
        """Return a seekable stream."""


def storage_of(url: str) -> Storage:
    """Return the storage of a path or URL; the same object for all its files.

    Raises:
        EaiError: It needs a package that is not installed, or no client knows the scheme.
    """
    scheme = scheme_of(url)
    if scheme in {"", "file"}:
        return _local()
    host = url[len(scheme) + 3 :].split("/", 1)[0]
    # Only HDFS connects to the host in the URL; the others have hosts in their configuration.
    return _remote(scheme, host if scheme in {"hdfs", "webhdfs"} else "")


@functools.cache
def _local() -> Storage:
    from eai_notebook.io.sources.local_storage import LocalStorage

    return LocalStorage()


@functools.cache
def _remote(scheme: str, host: str) -> Storage:
    from eai_notebook.io.sources.remote_storage import RemoteStorage

    return RemoteStorage(scheme, host)
