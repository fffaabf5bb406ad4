"""Features of a click log from a table's columns, typed or as hexadecimal text."""

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

    from eai_notebook.clicklog.click_schema import ClickSchema
    from eai_notebook.io.sources.file import File

_NOT_HEX = -2
_AS_THEY_ARE = {pa.int32(): 4, pa.uint32(): 4, pa.int64(): 8}


@dataclass(frozen=True)
class ClickTable:
    """Reads the columns of a click schema, so that a model sees what delimited text gives it.

    Integer columns hold integers. Categorical ones hold 32-bit values, signed or not, or eight
    hexadecimal digits as text; null or empty is missing.
    """

    schema: ClickSchema
    label: str

    @property
    def columns(self) -> Sequence[str]:
        """The label, the integers, the categoricals."""
        return (self.label, *self.schema.integers, *self.schema.categorical)

    @property
    def numbers(self) -> frozenset[str]:
        """None: its kernels want to know of nulls."""
        return frozenset()

    @property
    def copies(self) -> bool:
        """Features are new arrays."""
        return True

    @property
    def spec(self) -> Mapping[str, Field]:
        """The same as that of delimited text."""
        return spec_of(self.schema)

    def check(self, file: File, schema: pa.Schema) -> None:
        """Refuse a file that lacks a column or has one of another type.

        Raises:
            EaiError: It does.
        """
        for name in self.columns:
            if name not in schema.names:
                raise EaiError(
                    f"{file} has no column {name!r}, its columns are {_few(schema.names)}",
                    f"make it with eai.io.convert, or give a schema with its names "
                    f"instead of {self.schema.name}",
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
                    f"{file} column {name!r} is {kind}, which is no integer",
                    "write it as an integer, or a categorical as 8 hexadecimal digits",
                    code="column-type",
                )

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:  # noqa: ARG002 - has none
        """Return the good rows, and the number of the first bad one."""
        rows = table.num_rows
        schema = self.schema
        bad = np.zeros(rows, np.bool_)
        labels = _labels(_whole(table.column(self.label)), bad)
        floats = aligned((rows, len(schema.integers)), np.dtype(np.float32))
        ids = aligned((rows, len(schema.categorical)), np.dtype(np.int32))
        # What holds the memory that the addresses lead to stays alive until the kernel is done.
        integers = [_Column.of(_whole(table.column(name)), bad) for name in schema.integers]
        words = [_Column.of(_whole(table.column(name)), bad) for name in schema.categorical]
        if rows:
            click_kernels.features(
                np.array([one.place for one in integers], np.int64).reshape(-1, 4),
                np.array([one.place for one in words], np.int64).reshape(-1, 4),
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
            alone = table.slice(row, 1).select([name])
            wrong = np.zeros(1, np.bool_)
            column = _Column.of(_whole(alone.column(0)), wrong)
            one = np.array([column.place], np.int64)
            none = np.empty((0, 4), np.int64)
            click_kernels.features(
                none,
                one,
                0.0,
                np.array([2], np.int32),
                np.empty((1, 0), np.float32),
                np.empty((1, 1), np.int32),
                wrong,
            )
            if wrong[0]:
                return f"has {values[name]!r} in {name}, which is no 32-bit value"
        return "cannot be read"


@dataclass(frozen=True)
class _Column:
    """Where a column's values lie: address, width, address of validity bits, first bit."""

    place: tuple[int, int, int, int]
    holds: Any

    @classmethod
    def of(cls, array: pa.Array, bad: NDArray[np.bool_]) -> _Column:
        if not kinds.is_integer(array.type):
            array = _numbers_of(array, bad)
        width = _AS_THEY_ARE.get(array.type)
        if width is None:
            array, width = array.cast(pa.int64()), 8
        validity, data = array.buffers()
        bits = validity.address if validity is not None and array.null_count else 0
        return cls((data.address + array.offset * width, width, bits, array.offset), array)


def _numbers_of(array: pa.Array, bad: NDArray[np.bool_]) -> pa.Array:
    """Return the values of hexadecimal text; rows with other text are bad."""
    if kinds.is_dictionary(array.type):
        wrong = np.zeros(len(array.dictionary), np.bool_)
        words = _numbers_of(array.dictionary, wrong)
        if wrong.any():
            bad |= wrong[array.indices.fill_null(0).to_numpy()] & array.is_valid().to_numpy(False)  # noqa: FBT003
        return words.take(array.indices)
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    values = np.empty(len(array), np.int64)
    there = array.is_valid().to_numpy(zero_copy_only=False)
    click_kernels.hex_values(text, ends, there, values)
    bad |= values == _NOT_HEX
    return pa.array(values, mask=values < 0)


def _labels(array: pa.Array, bad: NDArray[np.bool_]) -> NDArray[np.float32]:
    labels = aligned((len(array), 1), np.dtype(np.float32))
    labels[:, 0] = array.cast(pa.float32()).fill_null(-1).to_numpy(zero_copy_only=False)
    bad |= (labels[:, 0] != 0) & (labels[:, 0] != 1)
    return labels


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ..." if len(names) > 8 else shown  # noqa: PLR2004 - as many as a line holds
