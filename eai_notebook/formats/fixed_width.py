"""`binary`: read records of a fixed width, and NumPy's ``.npy`` files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.open_files import open_files
from eai_notebook.io.opens_again import opens_again
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
"""Bytes that are fetched at once; the same as for delimited text."""

_HEADER: Final = 1 << 16  # bytes; the header of a .npy file is shorter


@opens_again
def binary(
    pattern: Pattern,
    batch_size: int,
    *,
    fields: np.dtype[Any] | Mapping[str, tuple[Any, tuple[int, ...]]] | None = None,
    header: int = 0,
    **options: Unpack[Options],
) -> InputData:
    """Open files of fixed-width records as this rank's batches, ready for `fit`.

    Each field becomes a feature; the field ``"label"`` becomes the label. In a group, all ranks
    must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs.
        batch_size: Rows in each of this rank's batches.
        fields: The fields of a record: ``{"x": ("<f4", (13,)), "label": ("<f4", (1,))}`` without
            gaps, or a structured NumPy dtype. None for `.npy` files of structured arrays, as
            `eai_notebook.io.convert` writes them: their header describes the fields.
        header: Bytes before the first record of a file.
        **options: `shuffle`, `seed`, `uneven`, `readers`, `queue`, `shard` and the others: see
            `eai_notebook.formats.open_files.Options`.

    Raises:
        EaiError: No such file, a file without a whole number of records, or files that differ.
    """
    given = _dtype(fields)

    def describe(files: list[File], rank: int, size: int) -> Source:
        layouts = [_layout(file, given, header) for file in files]
        dtype = layouts[0].dtype
        for file, layout in zip(files, layouts, strict=True):
            if layout.dtype != dtype:
                raise EaiError(
                    f"the records of {file} have other fields than those of {files[0]}",
                    "write all files with the same fields",
                    code="files-differ",
                )
        parts = [
            BinaryPart(files[rows.group], layouts[rows.group], rows.begin, rows.end)
            for rows in share_rows(
                [layout.rows for layout in layouts], rank, size, max(PART // dtype.itemsize, 1)
            )
        ]
        total_bytes = sum(file.size for file in files)
        return Source("binary", parts, _spec(dtype), len(files), total_bytes)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class Layout:
    """Type of a file's records, offset of the first one, and their number."""

    dtype: np.dtype[Any]
    begin: int
    rows: int


@dataclass(frozen=True)
class BinaryPart(RowRange):
    """Records `begin` to `end` of a file: a `Part`. Any bytes are a valid record."""

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
        records = np.empty(self.rows, self.layout.dtype)
        offset = self.layout.begin + self.begin * self.layout.dtype.itemsize
        self.file.read_into(records.view(np.uint8), offset)
        return records

    def parse(self, fetched: NDArray[Any]) -> Loaded:
        """Return the fields as views of the records; only the batch copies them."""
        columns = {}
        for name, field in _spec(self.layout.dtype).items():
            column = fetched[name].astype(field.dtype, copy=False)
            columns[name] = column.reshape(self.rows, *field.shape)
        return Loaded(columns)

    def fault(self, first_bad: int) -> EaiError:
        """Return an error for the protocol `Part`; it is never raised, as no record is bad."""
        return EaiError(
            f"{self.file} record {self.begin + first_bad} cannot be read",
            "write it again",
            code="row-bad",
        )


def _spec(dtype: np.dtype[Any]) -> dict[str, Field]:
    spec = {}
    for name in dtype.names or ():
        field = dtype[name]
        shape = field.shape if name != LABEL or field.shape else (1,)
        spec[name] = Field(field.base.newbyteorder("="), shape)
    return spec


def _dtype(
    fields: np.dtype[Any] | Mapping[str, tuple[Any, tuple[int, ...]]] | None,
) -> np.dtype[Any] | None:
    if fields is None:
        return None
    try:
        dtype = (
            fields
            if isinstance(fields, np.dtype)
            else np.dtype([(name, base, shape) for name, (base, shape) in fields.items()])
        )
    except (TypeError, ValueError) as error:
        raise EaiError(
            f"fields={fields!r} is not a valid record type ({error})",
            'give {"name": (dtype, shape), ...}',
            code="record-type-invalid",
        ) from error
    return _checked(dtype, "fields")


def _checked(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    for name in dtype.names or ():
        if dtype[name].base.kind not in "biuf":
            raise EaiError(
                f"{what} {name!r} has type {dtype[name]}, which is not a number",
                "leave it out or convert it",
                code="record-type-invalid",
            )
    if not dtype.names or not dtype.itemsize:
        raise EaiError(
            f"{what} has no named fields",
            "give a structured dtype, or `fields`",
            code="record-type-invalid",
        )
    return dtype


def _layout(file: File, given: np.dtype[Any] | None, header: int) -> Layout:
    if given is None:
        dtype, begin, rows = _npy_header(file)
        expected = begin + rows * dtype.itemsize
        if expected > file.size:
            raise EaiError(
                f"{file} has {file.size:,} bytes, its header announces {expected:,}",
                "copy or write it again",
                code="file-size-wrong",
            )
        return Layout(dtype, begin, rows)
    rows, rest = divmod(file.size - header, given.itemsize)
    if rest or rows < 0:
        raise EaiError(
            f"{file} has {file.size:,} bytes, which is not a whole number of records of "
            f"{given.itemsize} bytes after a header of {header}",
            "check `fields` and `header`, or copy the file again",
            code="file-size-wrong",
        )
    return Layout(given, header, rows)


def _npy_header(file: File) -> tuple[np.dtype[Any], int, int]:
    """Return the record type, the offset of the first record and the number of records."""
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
        shape, _, dtype = read(stream)
    except (
        Exception
    ) as error:  # (NumPy evaluates the header as Python, which can fail in many ways.)
        raise EaiError(
            f"{file} is not a .npy file ({error})",
            "describe its records with `fields`",
            code="npy-invalid",
        ) from error
    if len(shape) != 1 or shape[0] < 0:
        raise EaiError(
            f"{file} has shape {shape}, not one dimension",
            "write a one-dimensional array of records",
            code="npy-invalid",
        )
    return _checked(dtype, f"{file} field"), stream.tell(), shape[0]
