"""Any table's columns as tensors: numbers, vectors, text."""

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
"""Names of columns, or features by name, each of several columns of one type side by side."""

Missing = float | Mapping[str, float] | None
"""What stands for a null in columns of numbers, in all of them or by column."""

Peek = Callable[[list[str]], "pa.Table | None"]
"""Reads the first rows of some columns, of whatever file has any; None if none has."""

_ANY: Final = -1
"""The size of a list whose type does not say it."""


@dataclass(frozen=True)
class PlainTable:
    """Reads columns as they are.

    Attributes:
        features: The columns each feature is made of; one alone keeps its shape.
        types: The Arrow type of each column.
        shapes: The shape of each column's rows.
        stand_ins: What stands for a null, by column.
    """

    features: Mapping[str, tuple[str, ...]]
    types: Mapping[str, pa.DataType]
    shapes: Mapping[str, tuple[int, ...]]
    stand_ins: Mapping[str, float]

    @classmethod
    def of(  # noqa: C901 - each option is checked
        cls,
        chosen: Chosen,
        label: str | None,
        missing: Missing,
        schema: pa.Schema,
        file: File,
        peek: Peek,
    ) -> PlainTable:
        """Return the reader for some columns of files like the one that has `schema`.

        Lists of any length are vectors, all as long as the first one.

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
            raise EaiError(
                f"no column of {file} was chosen", "name at least one", code="option-invalid"
            )
        types, fields = {}, {}
        for name in names:
            types[name] = schema.field(only(file, schema.names, name)).type
            field = _field(types[name])
            if field is None:
                raise EaiError(
                    f"{file} column {name!r} is {types[name]}, which no tensor can hold",
                    "choose other columns with columns=[...], or write it in another type",
                    code="column-type",
                )
            fields[name] = field
        lists = [name for name, field in fields.items() if _ANY in field.shape]
        first = peek(lists) if lists else None
        for name in lists:
            shape = tuple(max(size, 0) for size in fields[name].shape)  # where there are no rows
            if first is not None:
                shape = _shape_of(first.column(name), len(shape), file, name)
            fields[name] = Field(fields[name].dtype, shape)
        for feature, columns in features.items():
            if len({fields[name] for name in columns}) > 1:
                told = ", ".join(f"{name} {types[name]}" for name in columns)
                raise EaiError(
                    f"the columns of feature {feature!r} differ: {told}",
                    "put columns of one type into a feature",
                    code="column-types-differ",
                )
        shapes = {name: field.shape for name, field in fields.items()}
        return cls(features, types, shapes, _stand_ins(missing, fields, schema.names, file))

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
            field = self._row_of(columns[0])
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
                raise EaiError(
                    f"{file} has no column {name!r}",
                    "the first file has: leave it out",
                    code="files-differ",
                )
            found = schema.field(only(file, schema.names, name)).type
            if not _alike(_field(found), self._row_of(name)):
                raise EaiError(
                    f"{file} column {name!r} is {found}, {kind} in the first file",
                    "write all files alike",
                    code="files-differ",
                )

    def _row_of(self, name: str) -> Field:
        field = _field(self.types[name])
        assert field is not None  # noqa: S101 - `of` has seen to it
        return Field(field.dtype, self.shapes[name])

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
        for name, value in table.slice(row, 1).select(list(self.types)).to_pylist()[0].items():
            shape = self.shapes[name]
            if value is None:
                return f"has no value in column {name!r} (give missing={{{name!r}: ...}} for one)"
            if shape and _has_null(value):
                return f"has a null in column {name!r} (give missing={{{name!r}: ...}} for one)"
            if shape:
                told = "x".join(map(str, shape))
                return f"has other than {told} values in column {name!r}, unlike the first row"
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
        values, wrong = self._dense(array, name, self.shapes[name])
        bad |= wrong
        return values

    def _dense(
        self, array: pa.Array, name: str, shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the values of some rows, ``[rows, *shape]``, and which rows are bad."""
        if not shape:
            return self._scalars(array, name)
        absent = array.is_null().to_numpy(zero_copy_only=False)
        wrong = absent.copy()
        if not kinds.is_fixed_size_list(array.type):
            lengths = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
            wrong |= lengths != shape[0]
        elif array.type.list_size != shape[0]:
            wrong[:] = True
        whole = array.filter(pa.array(~wrong)) if wrong.any() else array
        values, inner = self._dense(whole.flatten(), name, shape[1:])
        values = values.reshape(len(whole), *shape)
        faulty: NDArray[np.bool_] = np.any(inner.reshape(len(whole), shape[0]), axis=1)
        if not wrong.any():
            return values, faulty
        spread = aligned((len(array), *shape), values.dtype)
        spread[...] = self._filling(name, values.dtype)
        spread[~wrong] = values
        # A vector that is missing altogether can be stood in for, one of another length cannot.
        faults = wrong & ~absent if name in self.stand_ins else wrong
        faults[~wrong] = faulty
        return spread, faults

    def _filling(self, name: str, dtype: np.dtype[Any]) -> Any:
        return b"" if dtype.hasobject else self.stand_ins.get(name, 0)

    def _scalars(self, array: pa.Array, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return single values, and which of them are nulls that nothing stands for."""
        if kinds.is_dictionary(array.type):
            array = array.dictionary_decode()
        field = _field(array.type)
        assert field is not None  # noqa: S101 - `check` has seen to it
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
            if name not in self.stand_ins and dtype.kind != "f":
                bad = array.is_null().to_numpy(zero_copy_only=False)
            value: Any = self.stand_ins.get(name, float("nan") if dtype.kind == "f" else 0)
            array = array.fill_null(pa.scalar(np.array(value).astype(dtype)[()], array.type))
        numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return numbers, bad


def only(file: File, names: Sequence[str], name: str) -> int:
    """Return which of a file's columns has a name.

    Raises:
        EaiError: None has, or several have.
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
            "choose other columns with columns=[...], or write the file with different names",
            code="column-repeated",
        )
    return names.index(name)


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))


def _alike(one: Field | None, other: Field) -> bool:
    """Return whether rows of a type can become rows of `other`; lists may be of any length."""
    return (
        one is not None
        and one.dtype == other.dtype
        and len(one.shape) == len(other.shape)
        and all(
            _ANY in pair or len(set(pair)) == 1 for pair in zip(one.shape, other.shape, strict=True)
        )
    )


def _shape_of(column: pa.ChunkedArray, depth: int, file: File, name: str) -> tuple[int, ...]:
    """Return the shape of the first vector of a column.

    Raises:
        EaiError: There is none, or it is empty.
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
            f"{file} column {name!r} has no value in its first vector (row {row + 1})",
            "vectors must all be as long as the first one: write it so, or choose other columns",
            code="vector-empty",
        )
    return tuple(shape)


def _stand_ins(
    missing: Missing, fields: Mapping[str, Field], names: Sequence[str], file: File
) -> dict[str, float]:
    """Return what stands for nulls, by column.

    Raises:
        EaiError: A column cannot hold it, or there is no such column.
    """
    if missing is None:
        return {}
    if isinstance(missing, Mapping):
        for name in missing:
            only(file, names, name)
            if name in fields and np.dtype(fields[name].dtype).hasobject:
                raise EaiError(
                    f"missing={{{name!r}: {missing[name]!r}}} is for a column of text, where a "
                    "null is empty text",
                    "leave it out",
                    code="missing-value-invalid",
                )
        found = {name: value for name, value in missing.items() if name in fields}
    else:
        numeric = (n for n, field in fields.items() if not np.dtype(field.dtype).hasobject)
        found = dict.fromkeys(numeric, missing)
    for name, value in found.items():
        dtype = np.dtype(fields[name].dtype)
        if not _holds(dtype, value):
            raise EaiError(
                f"missing={value!r} is nothing that column {name!r} can hold, which is {dtype}",
                f"give missing={{{name!r}: ...}} with a value for it, one for each column",
                code="missing-value-invalid",
            )
    return found


def _holds(dtype: np.dtype[Any], value: Any) -> bool:
    """Return whether a number is exactly one of a type; floats may be rounded."""
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
    """Return what a row of a column of a type is; None if no tensor can hold it."""
    if kinds.is_dictionary(kind):
        return _field(kind.value_type)
    if kinds.is_fixed_size_list(kind) or kinds.is_list(kind) or kinds.is_large_list(kind):
        inner = _field(kind.value_type)
        size = kind.list_size if kinds.is_fixed_size_list(kind) else _ANY
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
