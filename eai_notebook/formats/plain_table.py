"""`PlainTable`: reads the columns of any Arrow table as numbers, vectors or text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.alignment import aligned, rows_in
from eai_notebook.io.part import LABEL, Columns, Field, Loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

Chosen = Sequence[str] | Mapping[str, Sequence[str]] | None
"""Names of columns; or features by name, each of several columns of one type side by side."""

Missing = float | Mapping[str, float] | None
"""The value that replaces nulls in numeric columns: one for all, or one for each column."""

Peek = Callable[[list[str]], "pa.Table | None"]
"""Reads some columns of the first rows of the first file that has rows; None if no file has."""

_VARIABLE: Final = -1
"""The size of lists of variable length."""


@dataclass(frozen=True)
class PlainTable:
    """Reads columns without a schema.

    Attributes:
        features: The columns of each feature; a single column keeps its shape.
        types: The Arrow type of each column.
        shapes: The shape of a row in each column.
        fill_values: The value that replaces nulls, by column.
    """

    features: Mapping[str, tuple[str, ...]]
    types: Mapping[str, pa.DataType]
    shapes: Mapping[str, tuple[int, ...]]
    fill_values: Mapping[str, float]

    @classmethod
    def of(
        cls,
        chosen: Chosen,
        label: str | None,
        missing: Missing,
        schema: pa.Schema,
        file: File,
        peek: Peek,
    ) -> PlainTable:
        """Return the reader for files with the columns of `schema`.

        Lists of variable length become vectors as long as the first one.

        Raises:
            EaiError: A column does not exist, or has a type that cannot be a tensor.
        """
        features = _features(chosen, label, schema.names)
        names = [name for columns in features.values() for name in columns]
        if not names:
            raise EaiError(
                f"no column of {file} was chosen", "name at least one", code="option-invalid"
            )
        types = {name: schema.field(column_index(file, schema.names, name)).type for name in names}
        fields = {name: _tensor_field(file, name, kind) for name, kind in types.items()}
        lists = [name for name, field in fields.items() if _VARIABLE in field.shape]
        first = peek(lists) if lists else None
        for name in lists:
            # (Without rows, any length will do.)
            shape = tuple(max(size, 0) for size in fields[name].shape)
            if first is not None:
                shape = _shape_of(first.column(name), len(shape), file, name)
            fields[name] = Field(fields[name].dtype, shape)
        for feature, columns in features.items():
            if len({fields[name] for name in columns}) > 1:
                listed = ", ".join(f"{name} {types[name]}" for name in columns)
                raise EaiError(
                    f"the columns of feature {feature!r} have different types: {listed}",
                    "put columns of one type into a feature",
                    code="column-types-differ",
                )
        shapes = {name: field.shape for name, field in fields.items()}
        return cls(features, types, shapes, _fill_values(missing, fields, schema.names, file))

    @property
    def columns(self) -> Sequence[str]:
        """The columns of all features, each once."""
        return list(self.types)

    @property
    def copies(self) -> bool:
        """False: features are views of the table's memory where possible."""
        return False

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Numeric columns; they are used without a copy if they have no nulls."""
        return frozenset(
            name
            for name, kind in self.types.items()
            if kinds.is_integer(kind) or kinds.is_floating(kind)
        )

    @cached_property
    def spec(self) -> Mapping[str, Field]:
        """``[batch]`` for a single column, ``[batch, columns]`` for several, ``[batch, 1]`` for the label."""
        spec = {}
        for name, columns in self.features.items():
            field = self._row_of(columns[0])
            if len(columns) > 1 or (name == LABEL and not field.shape):
                field = Field(field.dtype, (len(columns), *field.shape))
            spec[name] = field
        return spec

    def check(self, file: File, schema: pa.Schema) -> None:
        """Check that a file has the columns of the first one.

        Raises:
            EaiError: A column is missing or has another type.
        """
        for name, kind in self.types.items():
            if name not in schema.names:
                raise EaiError(
                    f"{file} has no column {name!r}, which the first file has",
                    "leave the column out, or write all files with the same columns",
                    code="files-differ",
                )
            found = schema.field(column_index(file, schema.names, name)).type
            if not _compatible(_field(found), self._row_of(name)):
                raise EaiError(
                    f"{file} column {name!r} has type {found}, but {kind} in the first file",
                    "write all files with the same types",
                    code="files-differ",
                )

    def _row_of(self, name: str) -> Field:
        field = _field(self.types[name])
        assert field is not None  # noqa: S101 - `of` has checked it
        return Field(field.dtype, self.shapes[name])

    def read(self, table: pa.Table, numbers: Columns) -> Loaded:
        """Return the good rows, the number of bad ones and the index of the first bad one."""
        rows = rows_in(numbers) if numbers else table.num_rows
        bad = np.zeros(rows, np.bool_)
        columns = {}
        spec = self.spec
        found = dict(zip(table.column_names, table.itercolumns(), strict=True))
        for feature, names in self.features.items():
            field = spec[feature]
            if not field.shape and names[0] in numbers:
                # (A short path: there may be hundreds of columns in each batch.)
                columns[feature] = numbers[names[0]]
                continue
            parts = [
                numbers[name] if name in numbers else self._values(found[name], name, bad)
                for name in names
            ]
            if len(parts) == 1:
                columns[feature] = parts[0].reshape(rows, *field.shape)
            else:
                joined = aligned((rows, *field.shape), np.dtype(field.dtype))
                for index, part in enumerate(parts):
                    joined[:, index] = part
                columns[feature] = joined
        count = int(np.count_nonzero(bad))
        if not count:
            return Loaded(columns)
        good = {name: column[~bad] for name, column in columns.items()}
        return Loaded(good, count, int(np.argmax(bad)))

    def fault(self, table: pa.Table, row: int) -> str:
        """Return what is wrong with a row."""
        for name, value in table.slice(row, 1).select(list(self.types)).to_pylist()[0].items():
            shape = self.shapes[name]
            if value is None:
                return f"has a null in column {name!r} (missing={{{name!r}: ...}} replaces nulls)"
            if shape and _has_null(value):
                return (
                    f"has a null in a vector of column {name!r} "
                    f"(missing={{{name!r}: ...}} replaces nulls)"
                )
            if shape:
                size = "x".join(map(str, shape))
                return f"does not have {size} values in column {name!r}, as the first row has"
        return "cannot be read"

    def _values(self, column: pa.ChunkedArray, name: str, bad: NDArray[np.bool_]) -> NDArray[Any]:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0)
        numeric = name in self.numbers and array.type == self.types[name]
        if numeric and not array.null_count:
            # (A short path: there may be hundreds of columns in each batch.)
            numbers: NDArray[Any] = array.to_numpy()
            return numbers
        values, wrong = self._dense(array, name, self.shapes[name])
        bad |= wrong
        return values

    def _dense(
        self, array: pa.Array, name: str, shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return values ``[rows, *shape]`` and a mask of the bad rows."""
        if not shape:
            return self._scalars(array, name)
        null = array.is_null().to_numpy(zero_copy_only=False)
        wrong = null.copy()
        if not kinds.is_fixed_size_list(array.type):
            lengths = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
            wrong |= lengths != shape[0]
        elif array.type.list_size != shape[0]:
            wrong[:] = True
        vectors = array.filter(pa.array(~wrong)) if wrong.any() else array
        values, inner = self._dense(vectors.flatten(), name, shape[1:])
        values = values.reshape(len(vectors), *shape)
        bad_vectors: NDArray[np.bool_] = np.any(inner.reshape(len(vectors), shape[0]), axis=1)
        if not wrong.any():
            return values, bad_vectors
        filled = aligned((len(array), *shape), values.dtype)
        filled[...] = self._fill_value(name, values.dtype)
        filled[~wrong] = values
        # A fill value replaces a null vector, but not one of another length.
        bad = wrong & ~null if name in self.fill_values else wrong
        bad[~wrong] = bad_vectors
        return filled, bad

    def _fill_value(self, name: str, dtype: np.dtype[Any]) -> Any:
        return b"" if dtype.hasobject else self.fill_values.get(name, 0)

    def _scalars(self, array: pa.Array, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return scalar values and a mask of the nulls that have no fill value."""
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        field = _field(array.type)
        assert field is not None  # noqa: S101 - `check` has checked it
        dtype = np.dtype(field.dtype)
        bad = np.zeros(len(array), np.bool_)
        if dtype.hasobject:
            texts = array.cast(pa.large_binary())
            texts = texts.fill_null(b"") if texts.null_count else texts
            values: NDArray[Any] = texts.to_numpy(zero_copy_only=False)
            return values, bad
        if kinds.is_temporal(array.type):
            array = array.cast(pa.int64())
        if array.null_count:
            if name not in self.fill_values and dtype.kind != "f":
                bad = array.is_null().to_numpy(zero_copy_only=False)
            value: Any = self.fill_values.get(name, float("nan") if dtype.kind == "f" else 0)
            array = array.fill_null(pa.scalar(np.array(value).astype(dtype)[()], array.type))
        numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return numbers, bad


def column_index(file: File, names: Sequence[str], name: str) -> int:
    """Return the index of the one column with a name.

    Raises:
        EaiError: No column or several columns have the name.
    """
    count = names.count(name)
    if not count:
        raise EaiError(
            f"{file} has no column {name!r}",
            f"choose from {', '.join(names[:20])}",
            code="column-unknown",
        )
    if count > 1:
        raise EaiError(
            f"{file} has {count} columns named {name!r}",
            "choose other columns with columns=[...], or write the file with distinct names",
            code="column-repeated",
        )
    return names.index(name)


def _features(
    chosen: Chosen, label: str | None, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the columns of each feature, the label among them."""
    if label is None and chosen is None and LABEL in names:
        label = LABEL
    if chosen is None:
        chosen = [name for name in names if name != label]
    features: dict[str, tuple[str, ...]] = (
        {name: tuple(columns) for name, columns in chosen.items()}
        if isinstance(chosen, Mapping)
        else {name: (name,) for name in chosen if name != label}
    )
    if label is not None:
        features[LABEL] = (label,)
    return features


def _tensor_field(file: File, name: str, kind: pa.DataType) -> Field:
    """Return the type and shape of a column's rows.

    Raises:
        EaiError: Tensors have no such type.
    """
    field = _field(kind)
    if field is None:
        raise EaiError(
            f"{file} column {name!r} has type {kind}, which cannot be a tensor",
            "choose other columns with columns=[...], or write it in another type",
            code="column-type",
        )
    return field


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))


def _compatible(one: Field | None, other: Field) -> bool:
    """Return whether two columns have the same type; lists of variable length match any length."""
    return (
        one is not None
        and one.dtype == other.dtype
        and len(one.shape) == len(other.shape)
        and all(
            _VARIABLE in pair or len(set(pair)) == 1
            for pair in zip(one.shape, other.shape, strict=True)
        )
    )


def _shape_of(column: pa.ChunkedArray, depth: int, file: File, name: str) -> tuple[int, ...]:
    """Return the shape of the first vector of a column.

    Raises:
        EaiError: All are null, or the first one is empty.
    """
    row, value = 0, None
    for row in range(len(column)):
        value = column[row].as_py()
        if value is not None:
            break
    shape: list[int] = []
    while len(shape) < depth and value:
        shape.append(len(value))
        value = value[0]
    if len(shape) < depth:
        raise EaiError(
            f"{file} column {name!r} has an empty first vector (row {row + 1}), so the length of "
            "its vectors is unknown",
            "write vectors of one length, or choose other columns",
            code="vector-empty",
        )
    return tuple(shape)


def _fill_values(
    missing: Missing, fields: Mapping[str, Field], names: Sequence[str], file: File
) -> dict[str, float]:
    """Return the value that replaces nulls, by column.

    Raises:
        EaiError: The value does not fit a column's type, or there is no such column.
    """
    if missing is None:
        return {}
    if isinstance(missing, Mapping):
        for name in missing:
            column_index(file, names, name)
            if name in fields and np.dtype(fields[name].dtype).hasobject:
                raise EaiError(
                    f"missing={{{name!r}: {missing[name]!r}}} names a column of text, where a null "
                    "becomes empty text",
                    "leave it out",
                    code="missing-value-invalid",
                )
        values = {name: value for name, value in missing.items() if name in fields}
    else:
        numeric = (n for n, field in fields.items() if not np.dtype(field.dtype).hasobject)
        values = dict.fromkeys(numeric, missing)
    for name, value in values.items():
        dtype = np.dtype(fields[name].dtype)
        if not _can_hold(dtype, value):
            raise EaiError(
                f"missing={value!r} does not fit column {name!r}, which has type {dtype}",
                f"give a value for each column, missing={{{name!r}: ...}}",
                code="missing-value-invalid",
            )
    return values


def _can_hold(dtype: np.dtype[Any], value: Any) -> bool:
    """Return whether a type can hold a number: integers exactly, floats rounded."""
    if not isinstance(value, (int, float)) and not np.isreal(np.asarray(value)).all():
        return False
    if isinstance(value, (str, bytes)) or np.ndim(value):
        return False
    if dtype.kind == "b":
        return value in {0, 1}
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool(np.isfinite(dtype.type(value)) or not np.isfinite(value))
    limits = np.iinfo(dtype)
    return bool(np.isfinite(value) and value == int(value) and limits.min <= value <= limits.max)


def _field(kind: pa.DataType) -> Field | None:
    """Return the tensor type and shape of a row of an Arrow type; None if there is none."""
    if kinds.is_dictionary(kind):
        return _field(kind.value_type)
    if kinds.is_fixed_size_list(kind) or kinds.is_list(kind) or kinds.is_large_list(kind):
        inner = _field(kind.value_type)
        size = kind.list_size if kinds.is_fixed_size_list(kind) else _VARIABLE
        return None if inner is None or not size else Field(inner.dtype, (size, *inner.shape))
    if kinds.is_boolean(kind) or kinds.is_integer(kind) or kinds.is_floating(kind):
        return Field(np.dtype(kind.to_pandas_dtype()))
    if kinds.is_timestamp(kind) or kinds.is_duration(kind) or kinds.is_date64(kind):
        return Field(np.dtype(np.int64))
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    binaries = (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view)
    if any(test(kind) for test in (*texts, *binaries)):
        return Field(np.dtype(object))
    return None
