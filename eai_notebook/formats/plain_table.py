"""Any table's columns as tensors: numbers, vectors, text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.alignment import aligned, rows_in
from eai_notebook.io.part import LABEL, Columns, Field, Loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

Chosen = Sequence[str] | Mapping[str, Sequence[str]] | None
"""Names of columns, or features by name, each of several columns of one type side by side."""

Missing = float | Mapping[str, float] | None
"""What stands for a null in columns of numbers, in all of them or by column."""


@dataclass(frozen=True)
class PlainTable:
    """Reads columns as they are.

    Attributes:
        features: The columns each feature is made of; one alone keeps its shape.
        types: The Arrow type of each column.
        stand_ins: What stands for a null, by column.
    """

    features: Mapping[str, tuple[str, ...]]
    types: Mapping[str, pa.DataType]
    stand_ins: Mapping[str, float]

    @classmethod
    def of(
        cls, chosen: Chosen, label: str | None, missing: Missing, schema: pa.Schema, file: File
    ) -> PlainTable:
        """Return the reader for some columns of files like the one that has `schema`.

        Raises:
            EaiError: There is no such column, or its type is none a tensor can have.
        """
        if label is None and LABEL in schema.names and chosen is None:
            label = LABEL
        if chosen is None:
            chosen = [name for name in schema.names if name != label]
        features: dict[str, tuple[str, ...]] = (
            {name: tuple(columns) for name, columns in chosen.items()}
            if isinstance(chosen, Mapping)
            else {name: (name,) for name in chosen if name != label}
        )
        if label is not None:
            features[LABEL] = (label,)
        names = [name for columns in features.values() for name in columns]
        if not names:
            raise EaiError(f"no column of {file} was chosen", "name at least one")
        types = {}
        for name in names:
            if name not in schema.names:
                raise EaiError(
                    f"{file} has no column {name!r}", f"choose from {', '.join(schema.names[:20])}"
                )
            types[name] = schema.field(name).type
            if _field(types[name]) is None:
                raise EaiError(
                    f"{file} column {name!r} is {types[name]}, which no tensor can hold",
                    "choose other columns with columns=[...], or write it in another type",
                )
        for feature, columns in features.items():
            if len({_field(types[name]) for name in columns}) > 1:
                told = ", ".join(f"{name} {types[name]}" for name in columns)
                raise EaiError(
                    f"the columns of feature {feature!r} differ: {told}",
                    "put columns of one type into a feature",
                )
        stand_ins = (
            dict(missing)
            if isinstance(missing, Mapping)
            else {}
            if missing is None
            else dict.fromkeys(names, missing)
        )
        return cls(features, types, stand_ins)

    @property
    def columns(self) -> Sequence[str]:
        """All columns of all features, each once."""
        return list(self.types)

    @property
    def copies(self) -> bool:
        """Columns are given as they lie in the table, where that can be."""
        return False

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Columns of numbers, which are taken as they lie if there is no null among them."""
        return frozenset(
            name
            for name, kind in self.types.items()
            if kinds.is_integer(kind) or kinds.is_floating(kind)
        )

    @cached_property
    def spec(self) -> Mapping[str, Field]:
        """A lone column gives ``[batch]``, several ``[batch, columns]``, the label a column."""
        found = {}
        for name, columns in self.features.items():
            field = _field(self.types[columns[0]])
            assert field is not None  # noqa: S101 - `of` has seen to it
            if len(columns) > 1 or (name == LABEL and not field.shape):
                field = Field(field.dtype, (len(columns), *field.shape))
            found[name] = field
        return found

    def check(self, file: File, schema: pa.Schema) -> None:
        """Refuse a file whose columns are not those of the first one.

        Raises:
            EaiError: One is missing or of another type.
        """
        for name, kind in self.types.items():
            if name not in schema.names:
                raise EaiError(f"{file} has no column {name!r}", "the first file has: leave it out")
            if _field(schema.field(name).type) != _field(kind):
                raise EaiError(
                    f"{file} column {name!r} is {schema.field(name).type}, {kind} in the first file",
                    "write all files alike",
                )

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:
        """Return the good rows, and the number of the first bad one."""
        rows = rows_in(numbers) if numbers else table.num_rows
        bad = np.zeros(rows, np.bool_)
        columns = {}
        spec = self.spec
        found = dict(zip(table.column_names, table.itercolumns(), strict=True))
        for feature, names in self.features.items():
            field = spec[feature]
            if not field.shape and names[0] in numbers:
                # (There may be hundreds of them, so that what each costs counts.)
                columns[feature] = numbers[names[0]]
                continue
            parts = [
                numbers[name] if name in numbers else self._values(found[name], name, bad)
                for name in names
            ]
            if len(parts) == 1:
                columns[feature] = parts[0].reshape(rows, *field.shape)
            else:
                whole = aligned((rows, *field.shape), np.dtype(field.dtype))
                for place, part in enumerate(parts):
                    whole[:, place] = part
                columns[feature] = whole
        count = int(np.count_nonzero(bad))
        if not count:
            return Loaded(columns)
        good = {name: column[~bad] for name, column in columns.items()}
        return Loaded(good, count, int(np.argmax(bad)))

    def fault(self, table: pa.Table, row: int) -> str:
        """Return what is wrong with a row."""
        for name, value in table.slice(row, 1).select(self.columns).to_pylist()[0].items():
            if value is None:
                return f"has no value in column {name!r} (give missing={{{name!r}: ...}} for one)"
        return "cannot be read"

    def _values(self, column: pa.ChunkedArray, name: str, bad: NDArray[np.bool_]) -> NDArray[Any]:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0)
        numeric = name in self.numbers and array.type == self.types[name]
        if numeric and not array.null_count:
            # (There may be hundreds of them, so that what each costs counts.)
            numbers: NDArray[Any] = array.to_numpy()
            return numbers
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        field = _field(array.type)
        assert field is not None  # noqa: S101 - `check` has seen to it
        if array.null_count:
            array = self._without_nulls(array, name, bad)
        if field.shape:
            array = array.flatten()
        if np.dtype(field.dtype).hasobject:
            values: NDArray[Any] = array.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
            return values
        if kinds.is_temporal(array.type):
            array = array.cast(pa.int64())
        flat: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return flat.reshape(-1, *field.shape)

    def _without_nulls(self, array: pa.Array, name: str, bad: NDArray[np.bool_]) -> pa.Array:
        kind = array.type
        if kinds.is_fixed_size_list(kind):
            bad |= array.is_null().to_numpy(zero_copy_only=False)
            inner = array.flatten()  # leaves out the values of nulls, so put zeros there
            if len(inner) != len(array) * kind.list_size:
                zeros = pa.array([[0] * kind.list_size], kind)
                places = np.where(bad, 0, np.arange(1, len(array) + 1))
                return pa.concat_arrays([zeros, array]).take(pa.array(places))
            return array
        if name in self.stand_ins:
            return array.fill_null(pa.scalar(self.stand_ins[name]).cast(kind))
        if kinds.is_floating(kind):
            return array.fill_null(np.nan)
        if kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_temporal(kind):
            bad |= array.is_null().to_numpy(zero_copy_only=False)
            return array.fill_null(pa.scalar(0).cast(kind))
        return array.fill_null(b"" if kinds.is_binary(kind) else "")


def _field(kind: pa.DataType) -> Field | None:
    """Return what a row of a column of a type is; None if no tensor can hold it."""
    if kinds.is_dictionary(kind):
        return _field(kind.value_type)
    if kinds.is_fixed_size_list(kind):
        inner = _field(kind.value_type)
        return None if inner is None else Field(inner.dtype, (kind.list_size, *inner.shape))
    if kinds.is_boolean(kind) or kinds.is_integer(kind) or kinds.is_floating(kind):
        return Field(np.dtype(kind.to_pandas_dtype()))
    if kinds.is_timestamp(kind) or kinds.is_duration(kind) or kinds.is_date64(kind):
        return Field(np.dtype(np.int64))
    if any(
        test(kind)
        for test in (kinds.is_string, kinds.is_large_string, kinds.is_binary, kinds.is_large_binary)
    ):
        return Field(np.dtype(object))
    return None
