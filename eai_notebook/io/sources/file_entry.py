"""`FileEntry`: URL, size and version of an input file, as a storage lists it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.urls import scheme_of

COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Suffixes of files that are decompressed before they are read."""


@dataclass(frozen=True)
class FileEntry:
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
            >>> FileEntry("https://host/a.tsv.GZ?version=2", 10).suffix
            '.gz'
        """
        return PurePosixPath(self._path).suffix.lower()

    @property
    def kind(self) -> str:
        """The suffix of the file's format, without that of a compression.

        Examples:
            >>> FileEntry("a.tsv.gz", 10).kind
            '.tsv'
        """
        if self.suffix not in COMPRESSED:
            return self.suffix
        return PurePosixPath(self._path).with_suffix("").suffix.lower()

    @property
    def _path(self) -> str:
        return self.url if self.is_local else urlsplit(self.url).path or self.url


def changed(file: FileEntry) -> EaiError:
    """Return the error about a file that has changed since it was opened."""
    return EaiError(
        f"{file.url} has changed since it was opened",
        "wait until it is completely written, then open it again",
        code="file-changed",
    )


def shorter(file: FileEntry) -> EaiError:
    """Return the error about a file that has become shorter since it was opened."""
    return EaiError(
        f"{file.url} became shorter while it was read",
        "wait until it is completely written, then start again",
        code="file-changed",
    )
