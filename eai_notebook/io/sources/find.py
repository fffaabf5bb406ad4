"""`find_files`: the input files of a pattern, in the same order on all ranks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file import File
from eai_notebook.io.sources.retry import with_retries
from eai_notebook.io.sources.storage import storage_of
from eai_notebook.io.sources.urls import scheme_of

Pattern = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A glob, a folder, a file, a manifest, or a list of them; paths or URLs."""

MANIFEST: Final = ".manifest"
"""The suffix of a text file with one file name or pattern a line."""

_MAX_DEPTH: Final = 8
_MAX_SIZE: Final = 64 << 20  # bytes: about a million names

TEXT: Final = frozenset({".tsv", ".txt", ".csv"})
"""Suffixes of delimited text, before that of a compression."""


def find_files(pattern: Pattern, suffixes: frozenset[str] = TEXT) -> list[File]:
    """Return the files of a glob, a folder, a manifest or a list; globs and folders are sorted.

    Args:
        pattern: Paths or URLs: ``hdfs://``, ``s3://``, ``oss://``, ``gs://``, ``http(s)://`` and
            all others with a client of fsspec. A file whose name ends in ``.manifest`` has one
            of them a line, relative to its folder; ``#`` begins a comment.
        suffixes: Suffixes of the files to read if `pattern` is a folder.

    Raises:
        EaiError: There is no such file, it cannot be read, or its client is not installed.
    """
    if isinstance(pattern, (str, os.PathLike)):
        return _find_one(os.fspath(pattern), suffixes, ())
    files = [file for one in pattern for file in _find_one(os.fspath(one), suffixes, ())]
    if not files:
        raise EaiError(
            "the list of input files is empty", "name at least one file", code="no-files"
        )
    return files


def _find_one(name: str, suffixes: frozenset[str], parents: tuple[str, ...]) -> list[File]:
    """Return the files of one name; `parents` are the manifests that name it."""
    storage = storage_of(name)
    entries = with_retries(lambda: storage.find(name, suffixes), name)
    files = [File(entry.url, entry.size, entry.mark) for entry in entries]
    if len(files) != 1 or files[0].suffix != MANIFEST:
        return files
    manifest = files[0]
    if manifest.url in parents or len(parents) == _MAX_DEPTH:
        fault = "names itself" if manifest.url in parents else "is nested too deeply"
        raise EaiError(
            f"the manifest {manifest} {fault} (through {' -> '.join(parents)})",
            "name data files in it",
            code="manifest-invalid",
        )
    inner = (*parents, manifest.url)
    return [file for one in _listed(manifest) for file in _find_one(one, suffixes, inner)]


def _listed(manifest: File) -> list[str]:
    """Return the names in a manifest; relative names are relative to its folder.

    Raises:
        EaiError: The file is not a list of names.
    """
    if manifest.size > _MAX_SIZE:
        raise EaiError(
            f"{manifest} has {manifest.size:,} bytes, which is too large for a manifest",
            "write one path or URL a line, and give data files another suffix",
            code="manifest-invalid",
        )
    text = _text_of(manifest)
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise EaiError(
            f"the manifest {manifest} names no file",
            "write one path or URL a line",
            code="manifest-invalid",
        )
    folder = manifest.url.rpartition("/")[0]
    return [
        name
        if scheme_of(name) or PurePosixPath(name).is_absolute() or not folder
        else f"{folder}/{name}"
        for name in names
    ]


def _text_of(manifest: File) -> str:
    """Return the content of a manifest.

    Raises:
        EaiError: It is not text.
    """
    with manifest.open() as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EaiError(
            f"the manifest {manifest} is not UTF-8 text at byte {error.start}",
            "write one path or URL a line",
            code="manifest-invalid",
        ) from error
    if "\0" in text:
        raise EaiError(
            f"the manifest {manifest} is not text at byte {content.index(0)}",
            "write one path or URL a line",
            code="manifest-invalid",
        )
    return text
