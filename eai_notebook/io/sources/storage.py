"""The storage of a URL; its client library is loaded on first use."""

from __future__ import annotations

import functools
import re
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


class Storage(Protocol):
    """One kind of place where files lie. Raises what its client raises: `retry` looks at it."""

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[File]:
        """Return the files of a glob, a folder (those with a suffix) or one name, sorted."""

    def read_into(self, file: File, memory: NDArray[np.uint8], begin: int) -> int:
        """Fill memory with the bytes from `begin` on, and return how many there were."""

    def open(self, file: File) -> IO[bytes]:
        """Return a seekable stream."""


def scheme_of(url: str) -> str:
    """Return the scheme of a URL; empty for a path.

    Examples:
        >>> scheme_of("S3://bucket/file"), scheme_of("/data/a.tsv")
        ('s3', '')
    """
    found = _URL.match(url)
    return found[1].lower() if found else ""


def storage_of(url: str) -> Storage:
    """Return the storage of a path or URL, the same one for all files beside it.

    Raises:
        EaiError: It needs a package that is not installed, or no client knows the scheme.
    """
    scheme = scheme_of(url)
    if scheme in {"", "file"}:
        return _local()
    place = url[len(scheme) + 3 :].split("/", 1)[0]
    # Only HDFS has a connection to a host of its own; the others know hosts by configuration.
    return _remote(scheme, place if scheme in {"hdfs", "webhdfs"} else "")


@functools.cache
def _local() -> Storage:
    from eai_notebook.io.sources.local_storage import LocalStorage

    return LocalStorage()


@functools.cache
def _remote(scheme: str, place: str) -> Storage:
    from eai_notebook.io.sources.remote_storage import RemoteStorage

    return RemoteStorage(scheme, place)
