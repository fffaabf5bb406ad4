"""`TableReader`: turns Arrow tables into features, for Parquet and Arrow files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.plain_table import column_index

__all__ = ["TableReader", "bad_row", "column_index", "row_bytes"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from eai_notebook.io.part import Columns, Field, Loaded
    from eai_notebook.io.sources.file import File


class TableReader(Protocol):
    """Turns an Arrow table into feature columns; small and picklable."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns that are read."""

    @property
    def numbers(self) -> frozenset[str]:
        """Numeric columns that `read` also accepts as NumPy arrays, if they have no nulls."""

    @property
    def copies(self) -> bool:
        """Whether the features are copies that share no memory with the table."""

    @property
    def spec(self) -> Mapping[str, Field]:
        """Type and shape of a row, by feature."""

    def check(self, file: File, schema: pa.Schema) -> None:
        """Raise an error if a file lacks a column or has one of another type."""

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:
        """Return the good rows, the number of bad ones and the index of the first bad one.

        Args:
            table: Columns as Arrow arrays.
            numbers: Further columns, as NumPy arrays without nulls.
        """

    def fault(self, table: pa.Table, row: int) -> str:
        """Return what is wrong with a row, to follow "row 7" in an error."""


def bad_row(where: str, row: int, fault: str) -> EaiError:
    """Return the error about a bad row.

    Args:
        where: File, and row group or record batch.
        row: Index of the row in it; the error counts from 1.
        fault: What is wrong.
    """
    return EaiError(
        f"{where} row {row + 1} {fault}",
        'repair or remove the row, or skip and count bad rows with on_error="skip"',
        code="row-bad",
    )


def row_bytes(spec: Mapping[str, Field]) -> int:
    """Return the bytes of a row in memory; an object, such as text, counts as its pointer."""
    return sum(
        np.dtype(field.dtype).itemsize * int(np.prod(field.shape, dtype=np.int64))
        for field in spec.values()
    )
