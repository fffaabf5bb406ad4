"""`binary`: read records of a fixed width, and NumPy's ``.npy`` files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.open_files import open_files
from eai_notebook.io.part import LABEL, Field, Loaded, RowRange, Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".npy", ".bin", ".dat"})
PART: Final = 1 << 20
"""Bytes that are fetched at once, as for delimited text."""

_HEADER: Final = 1 << 16  # bytes in which the header of a .npy file ends


def binary(
    pattern: Pattern,
    batch_size: int,
    *,
    fields: np.dtype[Any] | Mapping[str, tuple[Any, tuple[int, ...]]] | None = None,
    header: int = 0,
    **options: Unpack[Options],
) -> InputData:
    """Open files of records of one width as this rank's batches, ready for `fit`.

    Each field becomes a feature, the one called ``"label"`` what a model should predict. In a
    group, all ranks must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs.
        batch_size: Rows in each of this rank's batches.
        fields: What a record is: ``{"x": ("<f4", (13,)), "label": ("<f4", (1,))}`` with no gaps
            between, or a structured NumPy dtype. None for `.npy` files of structured arrays,
            as `eai_notebook.io.convert` writes them: they say it themselves.
        header: Bytes before the first record of a file.
        **options: `shuffle`, `seed`, `uneven`, `readers`, `queue`, `shard` and the others: see
            `eai_notebook.formats.open_files.Options`.

    Raises:
        EaiError: No such file, a file that does not hold whole records, files that differ.
    """
    given = _dtype(fields)

    def describe(files: list[File], rank: int, size: int) -> Source:
        layouts = [_layout(file, given, header) for file in files]
        kind = layouts[0].kind
        for file, layout in zip(files, layouts, strict=True):
            if layout.kind != kind:
                raise EaiError(
                    f"{file} holds other records than {files[0]}",
                    "write all files alike",
                    code="files-differ",
                )
        parts = [
            BinaryPart(files[at.group], layouts[at.group], at.begin, at.end)
            for at in share_rows(
                [one.rows for one in layouts], rank, size, max(PART // kind.itemsize, 1)
            )
        ]
        seen = sum(file.size for file in files)
        return Source("binary", parts, _spec(kind), len(files), seen)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class Layout:
    """Where records lie in a file, and what they are."""

    kind: np.dtype[Any]
    begin: int
    rows: int


@dataclass(frozen=True)
class BinaryPart(RowRange):
    """Some records of a file: a `Part`. None of them can be bad."""

    file: File
    layout: Layout
    begin: int
    end: int

    @property
    def name(self) -> str:
        """File and records."""
        return f"{self.file}, records {self.begin}-{self.end}"

    def fetch(self) -> NDArray[Any]:
        """Read the records."""
        records = np.empty(self.rows, self.layout.kind)
        at = self.layout.begin + self.begin * self.layout.kind.itemsize
        self.file.read_into(records.view(np.uint8), at)
        return records

    def parse(self, fetched: NDArray[Any]) -> Loaded:
        """Return the fields, where they lie; the batch is the only copy that is made of them."""
        columns = {}
        for name, field in _spec(self.layout.kind).items():
            column = fetched[name].astype(field.dtype, copy=False)
            columns[name] = column.reshape(self.rows, *field.shape)
        return Loaded(columns)

    def fault(self, first_bad: int) -> EaiError:
        """Return an error that is never needed: all bytes are good records."""
        return EaiError(
            f"{self.file} record {self.begin + first_bad} cannot be read",
            "write it again",
            code="row-bad",
        )


def _spec(kind: np.dtype[Any]) -> dict[str, Field]:
    spec = {}
    for name in kind.names or ():
        field = kind[name]
        shape = field.shape if name != LABEL or field.shape else (1,)
        spec[name] = Field(field.base.newbyteorder("="), shape)
    return spec


def _dtype(
    fields: np.dtype[Any] | Mapping[str, tuple[Any, tuple[int, ...]]] | None,
) -> np.dtype[Any] | None:
    if fields is None:
        return None
    try:
        kind = (
            fields
            if isinstance(fields, np.dtype)
            else np.dtype([(name, one, shape) for name, (one, shape) in fields.items()])
        )
    except (TypeError, ValueError) as error:
        raise EaiError(
            f"fields={fields!r} describe no record ({error})",
            'give {"name": (dtype, shape), ...}',
            code="record-type-invalid",
        ) from error
    return _checked(kind, "fields")


def _checked(kind: np.dtype[Any], what: str) -> np.dtype[Any]:
    for name in kind.names or ():
        if kind[name].base.kind not in "biuf":
            raise EaiError(
                f"{what} {name!r} is {kind[name]}, no number",
                "leave it out or convert",
                code="record-type-invalid",
            )
    if not kind.names or not kind.itemsize:
        raise EaiError(
            f"{what} has no named fields",
            "give a structured dtype, or `fields`",
            code="record-type-invalid",
        )
    return kind


def _layout(file: File, given: np.dtype[Any] | None, header: int) -> Layout:
    if given is None:
        kind, begin, rows = _npy(file)
        wanted = begin + rows * kind.itemsize
        if wanted > file.size:
            raise EaiError(
                f"{file} ends after {file.size:,} bytes of {wanted:,}",
                "copy or write it again",
                code="file-size-wrong",
            )
        return Layout(kind, begin, rows)
    rows, rest = divmod(file.size - header, given.itemsize)
    if rest or rows < 0:
        raise EaiError(
            f"{file} has {file.size:,} bytes, which is no whole number of records of "
            f"{given.itemsize} bytes after a header of {header}",
            "check `fields` and `header`, or copy the file again",
            code="file-size-wrong",
        )
    return Layout(given, header, rows)


def _npy(file: File) -> tuple[np.dtype[Any], int, int]:
    memory = np.empty(min(file.size, _HEADER), np.uint8)
    file.read_into(memory)
    stream = io.BytesIO(memory.tobytes())
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(stream)
    except Exception as error:  # (NumPy has Python parse it, which may fail in many ways.)
        raise EaiError(
            f"{file} is no .npy file ({error})",
            "say with `fields` what its records are",
            code="npy-invalid",
        ) from error
    if len(shape) != 1 or shape[0] < 0:
        raise EaiError(f"{file} has shape {shape}", "write one record a row", code="npy-invalid")
    return _checked(kind, f"{file} field"), stream.tell(), shape[0]
