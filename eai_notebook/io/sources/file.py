"""`File`: URL, size and version of an input file, and range reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.retry import with_retries
from eai_notebook.io.sources.storage import scheme_of, storage_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Suffixes of files that have to be unpacked before they can be read."""


@dataclass(frozen=True)
class File:
    """A file anywhere; small, the same on every rank, and able to travel between processes.

    Attributes:
        url: A local path, or a URL such as ``s3://bucket/day-1.tsv``.
        size: Bytes.
        mark: What changes with the content: a time of change or an entity tag, as the
            storage gives it; empty if it gives none.
    """

    url: str
    size: int
    mark: str = ""

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this host, which costs nothing to ask about."""
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
        """The suffix that tells what is in it, beneath a compression's.

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
        """Fill `memory` with the bytes from `begin` on; many threads may do so at once.

        Raises:
            EaiError: It has changed, or is too short; or the storage fails for good.
        """
        storage = storage_of(self.url)
        got = with_retries(lambda: storage.read_into(self, memory, begin), self.url)
        if got != len(memory):
            raise shorter(self)

    def open(self) -> IO[bytes]:
        """Return a seekable stream of its bytes, for libraries that read files by themselves.

        Raises:
            EaiError: It has changed, or the storage fails for good.
        """
        storage = storage_of(self.url)
        return with_retries(lambda: storage.open(self), self.url)


def changed(file: File) -> EaiError:
    """Return the error about a file that is not what it was when it was found."""
    return EaiError(
        f"{file.url} has changed since it was opened",
        "wait until it is completely written, then open it again",
        code="file-changed",
    )


def shorter(file: File) -> EaiError:
    """Return the error about a file that has lost bytes since it was found."""
    return EaiError(
        f"{file.url} became shorter while it was read",
        "wait until it is completely written, then start again",
        code="file-changed",
    )
