"""From an Arrow table to a rank's columns, for Parquet and Arrow files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.plain_table import PlainTable, only

__all__ = ["TableReader", "fault_in", "only", "reader_for", "row_bytes"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from eai_notebook.formats.plain_table import Chosen, Missing, Peek
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.io.part import Columns, Field, Loaded
    from eai_notebook.io.sources.file import File


class TableReader(Protocol):
    """What makes a rank's columns of a table; small, and able to travel between processes."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns it needs."""

    @property
    def numbers(self) -> frozenset[str]:
        """Those of them that it also takes as plain arrays, where they are numbers and none is null."""

    @property
    def copies(self) -> bool:
        """Whether what it makes holds no memory of the table."""

    @property
    def spec(self) -> Mapping[str, Field]:
        """What a row becomes."""

    def check(self, file: File, schema: pa.Schema) -> None:
        """Refuse a file that lacks a column or has one of another type."""

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:
        """Return the good rows of a table and of what is beside it as `numbers`.

        A bad one is told by its number.
        """

    def fault(self, table: pa.Table, row: int) -> str:
        """Return what is wrong with a row."""


def reader_for(
    schema: RowSchema | None,
    columns: Chosen,
    label: str | None,
    missing: Missing,
    first: pa.Schema,
    file: File,
    peek: Peek,
) -> TableReader:
    """Return the reader that the options of `parquet` and `arrow` ask for.

    Raises:
        EaiError: The options contradict each other or the first file's columns.
    """
    if schema is None:
        return PlainTable.of(columns, label, missing, first, file, peek)
    if columns is not None or missing is not None:
        raise EaiError(
            f"schema={schema.name} says already what the columns are",
            "leave out `columns` and `missing`, or the schema",
            code="options-conflict",
        )
    return schema.table_reader(label or "label")


def fault_in(place: str, row: int, what: str) -> EaiError:
    """Return the error about a row, counted from 1 in its place."""
    return EaiError(
        f"{place} row {row + 1} {what}",
        'mend or remove the row, or leave bad rows out and count them with on_error="skip"',
        code="row-bad",
    )


def row_bytes(spec: Mapping[str, Field]) -> int:
    """Return the bytes of a row in memory; of an object, such as text, its reference alone."""
    return sum(
        np.dtype(field.dtype).itemsize * int(np.prod(field.shape, dtype=np.int64))
        for field in spec.values()
    )
