"""Find input files, in an order that is equal on all ranks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.retry import with_retries
from eai_notebook.io.sources.storage import scheme_of, storage_of

if TYPE_CHECKING:
    from eai_notebook.io.sources.file import File

Pattern = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A glob, a folder, a file, a manifest, or a list of them; paths or URLs."""

MANIFEST: Final = ".manifest"
"""The suffix of a text file that names one file, or pattern, a line."""

_DEEPEST: Final = 8
_LARGEST: Final = 64 << 20  # bytes: about a million names

TEXT: Final = frozenset({".tsv", ".txt", ".csv"})
"""What a folder of delimited text may hold, apart from compression."""


def find_files(pattern: Pattern, suffixes: frozenset[str] = TEXT) -> list[File]:
    """Return the files a glob, a folder, a manifest or a list names; globs and folders sorted.

    Args:
        pattern: Paths or URLs: ``hdfs://``, ``s3://``, ``oss://``, ``gs://``, ``http(s)://``,
            and whatever else fsspec has a client for. A file whose name ends in ``.manifest``
            holds one of them a line, seen from its own folder; ``#`` begins a comment.
        suffixes: Which files of a folder are meant.

    Raises:
        EaiError: Nothing is there, it may not be read, or its client is not installed.
    """
    if isinstance(pattern, (str, os.PathLike)):
        return _of_one(os.fspath(pattern), suffixes, ())
    files = [file for one in pattern for file in _of_one(os.fspath(one), suffixes, ())]
    if not files:
        raise EaiError(
            "the list of input files is empty", "name at least one file", code="no-files"
        )
    return files


def _of_one(name: str, suffixes: frozenset[str], within: tuple[str, ...]) -> list[File]:
    """Return the files that a name means; `within` are the manifests that have led to it."""
    storage = storage_of(name)
    files = with_retries(lambda: storage.find(name, suffixes), name)
    if len(files) != 1 or files[0].suffix != MANIFEST:
        return files
    manifest = files[0]
    if manifest.url in within or len(within) == _DEEPEST:
        told = "names itself" if manifest.url in within else "is named by too many others"
        raise EaiError(
            f"{manifest} {told} (by way of {' -> '.join(within)})",
            "name files of rows in it",
            code="manifest-invalid",
        )
    inner = (*within, manifest.url)
    return [file for one in _listed(manifest) for file in _of_one(one, suffixes, inner)]


def _listed(manifest: File) -> list[str]:
    """Return what a manifest names; relative names are seen from its folder.

    Raises:
        EaiError: It is no list of names.
    """
    if manifest.size > _LARGEST:
        raise EaiError(
            f"{manifest} has {manifest.size:,} bytes, which is too much for a manifest",
            "write one path or URL a line, and name files of rows by another suffix",
            code="manifest-invalid",
        )
    with manifest.open() as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EaiError(
            f"{manifest} is no UTF-8 text at byte {error.start}",
            "write one path or URL a line",
            code="manifest-invalid",
        ) from error
    if "\0" in text:
        raise EaiError(
            f"{manifest} is no text at byte {content.index(0)}",
            "write one path or URL a line",
            code="manifest-invalid",
        )
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise EaiError(
            f"{manifest} names no file", "write one path or URL a line", code="manifest-invalid"
        )
    folder = manifest.url.rpartition("/")[0]
    return [
        name
        if scheme_of(name) or PurePosixPath(name).is_absolute() or not folder
        else f"{folder}/{name}"
        for name in names
    ]
