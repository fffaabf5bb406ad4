"""Readers that turn records of `tf.train.Example` into columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from eai_notebook.compiled.swar import PADDING
from eai_notebook.errors import EaiError
from eai_notebook.formats.tfrecord import example_kernels as kernels
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.part import LABEL, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from eai_notebook.io.part import Columns

KIND_NAMES: Final = {0: "nothing", 1: "bytes", 2: "floats", 3: "integers"}
SEQUENCE_FAULT: Final = "is a tf.train.SequenceExample"
SEQUENCE_REMEDY: Final = (
    "write it as tf.train.Example, padded to one length, or read it with eai.io.map_files"
)
_FAULTS: Final = {
    kernels.BAD_CRC: "is damaged: its checksum is wrong",
    kernels.BAD_EXAMPLE: "is not a tf.train.Example",
    kernels.BAD_LENGTH: "does not end within the bytes that were read",
    kernels.SEQUENCE: SEQUENCE_FAULT,
}

_memory = ThreadMemory()


class Example(NamedTuple):
    """The first record, from which the features are inferred."""

    file: str
    message: Any


@dataclass(frozen=True)
class FoundFeatures:
    """The features of some records; see `example_kernels.parse_examples`."""

    values: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    starts: NDArray[np.int64]
    status: NDArray[np.uint8]


class ExampleReader(Protocol):
    """Turns records into columns."""

    @property
    def spec(self) -> Mapping[str, Field]:
        """Type and shape of a row, by feature."""

    def warm_up(self) -> None:
        """Compile the kernels now, not within the first step."""

    def examples(self, data: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Parse the bytes of some records."""

    def columns(self, data: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Return columns of the records, and set the status of further bad rows."""

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record, to follow "record 7" in an error."""


@dataclass(frozen=True)
class Features:
    """The names of features, and the number of values of each."""

    names: tuple[str, ...]
    counts: tuple[int, ...]

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """The index of each feature's first value in a row, and the end of the last one."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def keys(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The names as bytes, and the index of each one's first byte."""
        names = [name.encode() for name in self.names]
        begins = np.concatenate([[0], np.cumsum([len(name) for name in names])])
        return np.frombuffer(b"".join(names) + bytes(8), np.uint8), begins.astype(np.int64)

    def find(self, data: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Parse records, one a row, into this thread's buffer, which the next call overwrites."""
        shape = (rows, int(self.slots[-1]))
        found = FoundFeatures(
            _memory.of(8 * shape[0] * shape[1]).view(np.int64).reshape(shape),
            np.empty((rows, len(self.names)), np.uint8),
            np.empty(rows, np.int64),
            np.empty(rows, np.uint8),
        )
        kernels.parse_examples(
            data,
            *self.keys,
            self.slots,
            found.values,
            found.kinds,
            found.starts,
            found.status,
        )
        return found

    def fault(self, found: FoundFeatures, row: int, wanted: Sequence[int]) -> str:
        """Return what is wrong with a record, given the kinds that its features must have."""
        status = int(found.status[row])
        if status in _FAULTS:
            return _FAULTS[status]
        kinds = zip(self.names, found.kinds[row].tolist(), wanted, strict=True)
        for name, kind, expected in kinds:
            if expected and kind != expected:
                return (
                    f"has {KIND_NAMES[kind]} in feature {name!r} instead of {KIND_NAMES[expected]}"
                )
        if status == kernels.BAD_COUNT:
            return f"has a wrong number of values in one of the features {', '.join(map(repr, self.names))}"
        return "has values that the schema does not allow"


@dataclass(frozen=True)
class PlainExamples:
    """Reads features without a schema; all records must have the same features.

    Attributes:
        types: Type and shape of each feature.
        label: The feature that becomes the label.
    """

    types: Mapping[str, Field]
    label: str | None

    @classmethod
    def of(
        cls,
        wanted: Mapping[str, tuple[Any, tuple[int, ...]]] | None,
        label: str | None,
        first: Callable[[], Example],
    ) -> PlainExamples:
        """Return the reader for some features, or for those of the first record.

        Raises:
            EaiError: A type is not supported, or the first record has no features.
        """
        if wanted is None:
            types = _inferred(first())
            label = LABEL if label is None and LABEL in types else label
        else:
            types = {name: _field(name, *one) for name, one in wanted.items()}
        if label is not None and label not in types:
            raise EaiError(
                f"the label {label!r} is not among the features",
                f"choose from {', '.join(types)}",
                code="feature-invalid",
            )
        return cls(types, label)

    @cached_property
    def _features(self) -> Features:
        counts = [int(np.prod(field.shape, dtype=np.int64)) for field in self.types.values()]
        return Features(tuple(self.types), tuple(counts))

    @cached_property
    def _kinds(self) -> list[int]:
        names = {"O": kernels.BYTES, "f": kernels.FLOATS}
        return [
            names.get(np.dtype(field.dtype).kind, kernels.INTEGERS) for field in self.types.values()
        ]

    @property
    def spec(self) -> Mapping[str, Field]:
        """The features; the label has shape ``[1]``."""
        return {
            LABEL if name == self.label else name: Field(field.dtype, field.shape or (1,))
            if name == self.label
            else field
            for name, field in self.types.items()
        }

    def warm_up(self) -> None:
        """Compile the kernels now, not within the first step."""
        empty = np.zeros(PADDING, np.uint8)
        self.columns(empty, self.examples(empty, 0))
        kernels.count_records(empty, 0, 0)

    def examples(self, data: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Parse the bytes of some records; each must have all features."""
        found = self._features.find(data, rows)
        wrong = (found.kinds != np.array(self._kinds, np.uint8)).any(axis=1)
        found.status[wrong & (found.status == kernels.GOOD)] = kernels.BAD_KIND
        return found

    def columns(self, data: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Return columns; records with numbers that do not fit their type become bad."""
        columns = {}
        slots = self._features.slots
        for index, ((name, field), kind) in enumerate(
            zip(self.types.items(), self._kinds, strict=True)
        ):
            values = found.values[:, slots[index] : slots[index + 1]]
            target = LABEL if name == self.label else name
            shape = (len(values), *self.spec[target].shape)
            if kind == kernels.BYTES:
                columns[target] = _objects(data, values, found.status).reshape(shape)
            elif kind == kernels.FLOATS:
                floats = values.astype(np.uint32).view(np.float32)
                columns[target] = _narrowed(floats, field.dtype, found.status).reshape(shape)
            else:
                columns[target] = _narrowed(values, field.dtype, found.status).reshape(shape)
        return columns

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""
        if found.status[row] == kernels.BAD_VALUE:
            slots = self._features.slots
            for index, ((name, field), kind) in enumerate(
                zip(self.types.items(), self._kinds, strict=True)
            ):
                values = found.values[row : row + 1, slots[index] : slots[index + 1]]
                if kind == kernels.FLOATS:
                    values = values.astype(np.uint32).view(np.float32)
                if kind != kernels.BYTES and len(values[0]):
                    overflow = ~_fits(values, np.dtype(field.dtype))[0]
                    if overflow.any():
                        value = values[0, int(np.argmax(overflow))]
                        return (
                            f"has {value} in feature {name!r}, outside the range of {field.dtype}"
                        )
        return self._features.fault(found, row, self._kinds)


def _fits(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return a mask of the values that a type can hold."""
    fit: NDArray[np.bool_]
    if dtype.kind == "b":
        fit = (values == 0) | (values == 1)
        return fit
    if values.dtype.kind == "i":
        limits = np.iinfo(dtype)
        fit = (values >= limits.min) & (values <= min(limits.max, np.iinfo(np.int64).max))
        return fit
    with np.errstate(over="ignore"):
        fit = np.isfinite(values.astype(dtype)) | ~np.isfinite(values)
    return fit


def _narrowed(values: NDArray[Any], dtype: DTypeLike, status: NDArray[np.uint8]) -> NDArray[Any]:
    """Return values converted to a type; rows with values that it cannot hold become bad."""
    target = np.dtype(dtype)
    if np.can_cast(values.dtype, target):
        return values.astype(target)
    good = status == kernels.GOOD
    overflow = good & ~_fits(values, target).all(axis=1)
    if overflow.any():
        status[overflow] = kernels.BAD_VALUE
    with np.errstate(over="ignore"):
        return values.astype(target)


def _objects(
    data: NDArray[np.uint8], values: NDArray[np.int64], status: NDArray[np.uint8]
) -> NDArray[Any]:
    """Return the byte strings that `values` point to; empty ones in bad rows."""
    strings = np.empty(values.shape, object)
    strings[:] = b""
    for row in np.flatnonzero(status == kernels.GOOD).tolist():
        for index, packed in enumerate(values[row].tolist()):
            offset, length = packed >> 32, packed & 0xFFFFFFFF
            strings[row, index] = data[offset : offset + length].tobytes()
    return strings


def _field(name: str, kind: Any, shape: tuple[int, ...]) -> Field:
    if kind in {"bytes", bytes}:
        return _sized(name, Field(np.dtype(object), tuple(shape)))
    try:
        found = np.dtype(kind)
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "biuf":
        raise EaiError(
            f"feature {name!r} has type {kind!r}",
            'use "float32", "int64", "bytes" or another numeric type',
            code="feature-invalid",
        )
    return _sized(name, Field(found, tuple(shape)))


def _sized(name: str, field: Field) -> Field:
    """Return a feature's type and shape.

    Raises:
        EaiError: The shape has a dimension of 0.
    """
    if any(size < 1 for size in field.shape):
        raise EaiError(
            f"feature {name!r} has shape {field.shape}",
            "use dimensions of at least 1",
            code="feature-invalid",
        )
    return field


def _inferred(first: Example) -> dict[str, Field]:
    """Return the types and shapes of the first record's features.

    Raises:
        EaiError: It has no features, or an empty one.
    """
    types = {"bytes_list": object, "float_list": np.float32, "int64_list": np.int64}
    found = {}
    for name, feature in sorted(first.message.features.feature.items()):
        kind = feature.WhichOneof("kind")
        count = len(getattr(feature, kind).value) if kind else 0
        if kind is None or not count:
            raise EaiError(
                f"{first.file} record 1 has no values in feature {name!r}, so its type is unknown",
                "give `features`, with the type and shape of each",
                code="features-unknown",
            )
        found[name] = Field(np.dtype(types[kind]), () if count == 1 else (count,))
    if not found:
        raise EaiError(
            f"{first.file} record 1 has no features",
            "give `features`, with the type and shape of each",
            code="features-unknown",
        )
    return found
