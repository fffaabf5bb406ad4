"""`ClickTable`: reads a click log's features from Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from eai_notebook.clicklog import click_kernels
from eai_notebook.clicklog.text_part import IDS, NUMBERS, spec_of
from eai_notebook.errors import EaiError
from eai_notebook.formats.plain_table import column_index
from eai_notebook.io.memory.alignment import aligned
from eai_notebook.io.part import LABEL, Columns, Field, Loaded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_columns import ClickColumns
    from eai_notebook.io.sources.file import File

_NOT_HEX = -2
_SUPPORTED_WIDTHS = {pa.int32(): 4, pa.uint32(): 4, pa.int64(): 8}


@dataclass(frozen=True)
class ClickTable:
    """Reads the columns of a click schema; the features equal those of delimited text.

    Integer columns hold integers. Categorical columns hold 32-bit values, signed or unsigned, or
    text of eight hexadecimal digits; null or empty means missing.
    """

    schema: ClickColumns
    label: str

    @property
    def columns(self) -> Sequence[str]:
        """The label, the integers, the categoricals."""
        return (self.label, *self.schema.integers, *self.schema.categorical)

    @property
    def numbers(self) -> frozenset[str]:
        """Empty: the kernels read Arrow's validity bitmaps."""
        return frozenset()

    @property
    def copies(self) -> bool:
        """True: features are new arrays."""
        return True

    @property
    def spec(self) -> Mapping[str, Field]:
        """The same as for delimited text."""
        return spec_of(self.schema)

    def check(self, file: File, schema: pa.Schema) -> None:
        """Check that a file has the schema's columns.

        Raises:
            EaiError: A column is missing or has another type.
        """
        for name in self.columns:
            if name not in schema.names:
                raise EaiError(
                    f"{file} has no column {name!r}, its columns are {_first_names(schema.names)}",
                    f"write it with eai.io.convert, or give a schema with its column names instead "
                    f"of {self.schema.name}",
                    code="column-unknown",
                )
            kind = schema.field(column_index(file, schema.names, name)).type
            inner = kind.value_type if kinds.is_dictionary(kind) else kind
            text = name in self.schema.categorical and (
                kinds.is_string(inner)
                or kinds.is_large_string(inner)
                or kinds.is_binary(inner)
                or kinds.is_large_binary(inner)
            )
            label = name == self.label and (kinds.is_boolean(inner) or kinds.is_floating(inner))
            if not (text or label or kinds.is_integer(inner)):
                raise EaiError(
                    f"{file} column {name!r} has type {kind}, which is not an integer",
                    "write it as integers, or a categorical as 8 hexadecimal digits",
                    code="column-type",
                )

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:  # noqa: ARG002 - always empty
        """Return the good rows, the number of bad ones and the index of the first bad one."""
        rows = table.num_rows
        schema = self.schema
        bad = np.zeros(rows, np.bool_)
        labels = _labels(_combined(table.column(self.label)), bad)
        floats = aligned((rows, len(schema.integers)), np.dtype(np.float32))
        ids = aligned((rows, len(schema.categorical)), np.dtype(np.int32))
        # These objects keep the buffers alive until the kernel has read them.
        integers = [_Column.of(_combined(table.column(name)), bad) for name in schema.integers]
        categoricals = [
            _Column.of(_combined(table.column(name)), bad) for name in schema.categorical
        ]
        if rows:
            click_kernels.features(
                np.array([column.buffers for column in integers], np.int64).reshape(-1, 4),
                np.array([column.buffers for column in categoricals], np.int64).reshape(-1, 4),
                schema.missing_integer,
                np.asarray(schema.buckets, np.int32),
                floats,
                ids,
                bad,
            )
        columns = {NUMBERS: floats, IDS: ids, LABEL: labels}
        count = int(np.count_nonzero(bad))
        if not count:
            return Loaded(columns)
        good = {name: column[~bad] for name, column in columns.items()}
        return Loaded(good, count, int(np.argmax(bad)))

    def fault(self, table: pa.Table, row: int) -> str:
        """Return what is wrong with a row."""
        values = table.slice(row, 1).select(list(self.columns)).to_pylist()[0]
        label = values[self.label]
        if label not in {0, 1}:
            return f"has label {label!r}, which is neither 0 nor 1"
        for name in self.schema.categorical:
            value = table.slice(row, 1).select([name])
            wrong = np.zeros(1, np.bool_)
            column = _Column.of(_combined(value.column(0)), wrong)
            click_kernels.features(
                np.empty((0, 4), np.int64),
                np.array([column.buffers], np.int64),
                0.0,
                np.array([2], np.int32),
                np.empty((1, 0), np.float32),
                np.empty((1, 1), np.int32),
                wrong,
            )
            if wrong[0]:
                return f"has {values[name]!r} in {name}, which is not a 32-bit value"
        return "cannot be read"


@dataclass(frozen=True)
class _Column:
    """A column as the kernels read it: its buffers, see `click_kernels.features`, and their owner."""

    buffers: tuple[int, int, int, int]
    owner: Any

    @classmethod
    def of(cls, array: pa.Array, bad: NDArray[np.bool_]) -> _Column:
        if not kinds.is_integer(array.type):
            array = _numbers_of(array, bad)
        width = _SUPPORTED_WIDTHS.get(array.type)
        if width is None:
            array, width = array.cast(pa.int64()), 8
        validity, data = array.buffers()
        bits = validity.address if validity is not None and array.null_count else 0
        return cls((data.address + array.offset * width, width, bits, array.offset), array)


def _numbers_of(array: pa.Array, bad: NDArray[np.bool_]) -> pa.Array:
    """Return the values of hexadecimal text; rows with other text become bad."""
    if kinds.is_dictionary(array.type):
        wrong = np.zeros(len(array.dictionary), np.bool_)
        categoricals = _numbers_of(array.dictionary, wrong)
        if wrong.any():
            bad |= wrong[array.indices.fill_null(0).to_numpy()] & array.is_valid().to_numpy(False)  # noqa: FBT003
        return categoricals.take(array.indices)
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    values = np.empty(len(array), np.int64)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    click_kernels.hex_values(text, ends, valid, values)
    bad |= values == _NOT_HEX
    return pa.array(values, mask=values < 0)


def _labels(array: pa.Array, bad: NDArray[np.bool_]) -> NDArray[np.float32]:
    labels = aligned((len(array), 1), np.dtype(np.float32))
    labels[:, 0] = array.cast(pa.float32()).fill_null(-1).to_numpy(zero_copy_only=False)
    bad |= (labels[:, 0] != 0) & (labels[:, 0] != 1)
    return labels


def _combined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _first_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown  # noqa: PLR2004 - they fit into a line
