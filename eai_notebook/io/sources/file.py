"""`File`: URL, size and version of an input file, and range reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.retry import with_retries
from eai_notebook.io.sources.storage import storage_of
from eai_notebook.io.sources.urls import scheme_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Suffixes of files that are decompressed before they are read."""


@dataclass(frozen=True)
class File:
    """A local or remote file: a small, picklable description, equal on all ranks.

    Attributes:
        url: A local path, or a URL such as ``s3://bucket/day-1.tsv``.
        size: Bytes.
        mark: The version of the content: a modification time or an entity tag, as the storage
            reports it; empty if it reports none.
    """

    url: str
    size: int
    mark: str = ""

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether it is a path on this host."""
        return not scheme_of(self.url)

    @property
    def suffix(self) -> str:
        """The last suffix of its name, in lower case.

        Examples:
            >>> File("https://host/a.tsv.GZ?version=2", 10).suffix
            '.gz'
        """
        return PurePosixPath(self._path).suffix.lower()

    @property
    def kind(self) -> str:
        """The suffix of the file's format, without that of a compression.

        Examples:
            >>> File("a.tsv.gz", 10).kind
            '.tsv'
        """
        if self.suffix not in COMPRESSED:
            return self.suffix
        return PurePosixPath(self._path).with_suffix("").suffix.lower()

    @property
    def _path(self) -> str:
        return self.url if self.is_local else urlsplit(self.url).path or self.url

    def read_into(self, memory: NDArray[np.uint8], begin: int = 0) -> None:
        """Fill `memory` with the bytes from `begin` on; thread-safe.

        Raises:
            EaiError: The file has changed or is too short, or the storage fails permanently.
        """
        storage = storage_of(self.url)
        count = with_retries(lambda: storage.read_into(self, memory, begin), self.url)
        if count != len(memory):
            raise shorter(self)

    def open(self) -> IO[bytes]:
        """Return a seekable stream of the bytes, for libraries that read files themselves.

        Raises:
            EaiError: The file has changed, or the storage fails permanently.
        """
        storage = storage_of(self.url)
        return with_retries(lambda: storage.open(self), self.url)


def changed(file: File) -> EaiError:
    """Return the error about a file that has changed since it was opened."""
    return EaiError(
        f"{file.url} has changed since it was opened",
        "wait until it is completely written, then open it again",
        code="file-changed",
    )


def shorter(file: File) -> EaiError:
    """Return the error about a file that has become shorter since it was opened."""
    return EaiError(
        f"{file.url} became shorter while it was read",
        "wait until it is completely written, then start again",
        code="file-changed",
    )
