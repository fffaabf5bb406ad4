"""Features of `tf.train.Example` as columns."""

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
    kernels.BAD_SUM: "is damaged: its data do not fit their checksum",
    kernels.BAD_EXAMPLE: "is no tf.train.Example",
    kernels.BAD_LENGTH: "does not end within the bytes that were read",
    kernels.SEQUENCE: SEQUENCE_FAULT,
}

_memory = ThreadMemory()


class Example(NamedTuple):
    """A record to learn the features from."""

    file: str
    message: Any


@dataclass(frozen=True)
class FoundFeatures:
    """What was found in some records; see `example_kernels.examples`."""

    values: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    starts: NDArray[np.int64]
    status: NDArray[np.uint8]


class ExampleReader(Protocol):
    """What makes columns of records."""

    @property
    def spec(self) -> Mapping[str, Field]:
        """What a row becomes."""

    def warm_up(self) -> None:
        """Compile now, not within the first step."""

    def examples(self, text: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Find the features in the bytes of some records."""

    def columns(self, text: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Make columns of them, and mark more rows as bad."""

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""


@dataclass(frozen=True)
class Features:
    """The names of features, and how many values each has."""

    names: tuple[str, ...]
    counts: tuple[int, ...]

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """Where each one's values begin in a row, and the last one's end."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def keys(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The names as bytes, and where each begins."""
        names = [name.encode() for name in self.names]
        begins = np.concatenate([[0], np.cumsum([len(name) for name in names])])
        return np.frombuffer(b"".join(names) + bytes(8), np.uint8), begins.astype(np.int64)

    def find(self, text: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Read records, one a row; what was found holds until this thread reads more."""
        shape = (rows, int(self.slots[-1]))
        found = FoundFeatures(
            _memory.of(8 * shape[0] * shape[1]).view(np.int64).reshape(shape),
            np.empty((rows, len(self.names)), np.uint8),
            np.empty(rows, np.int64),
            np.empty(rows, np.uint8),
        )
        kernels.examples(
            text,
            *self.keys,
            self.slots,
            found.values,
            found.kinds,
            found.starts,
            found.status,
        )
        return found

    def fault(self, found: FoundFeatures, row: int, wanted: Sequence[int]) -> str:
        """Return what is wrong with a record, as far as features say it."""
        status = int(found.status[row])
        if status in _FAULTS:
            return _FAULTS[status]
        for name, kind, right in zip(self.names, found.kinds[row].tolist(), wanted, strict=True):
            if right and kind != right:
                return f"has {KIND_NAMES[kind]} in feature {name!r}, {KIND_NAMES[right]} are wanted"
        if status == kernels.BAD_COUNT:
            return "has another number of values in a feature than was asked for"
        return "holds values that the schema does not allow"


@dataclass(frozen=True)
class PlainExamples:
    """Reads features as they are, all records alike.

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
            EaiError: A type has no meaning, or the first record no features.
        """
        if wanted is None:
            types = _learned(first())
            label = LABEL if label is None and LABEL in types else label
        else:
            types = {name: _field(name, *one) for name, one in wanted.items()}
        if label is not None and label not in types:
            raise EaiError(
                f"there is no feature {label!r}",
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
        """The features; the label is a column."""
        return {
            LABEL if name == self.label else name: Field(field.dtype, field.shape or (1,))
            if name == self.label
            else field
            for name, field in self.types.items()
        }

    def warm_up(self) -> None:
        """Compile now, not within the first step."""
        nothing = np.zeros(PADDING, np.uint8)
        self.columns(nothing, self.examples(nothing, 0))
        kernels.walk(nothing, 0, 0)

    def examples(self, text: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Find the features in the bytes of some records; all must be there."""
        found = self._features.find(text, rows)
        wrong = (found.kinds != np.array(self._kinds, np.uint8)).any(axis=1)
        found.status[wrong & (found.status == kernels.GOOD)] = kernels.BAD_KIND
        return found

    def columns(self, text: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Make columns of them, and mark records as bad whose numbers the types cannot hold."""
        columns = {}
        slots = self._features.slots
        for place, ((name, field), kind) in enumerate(
            zip(self.types.items(), self._kinds, strict=True)
        ):
            values = found.values[:, slots[place] : slots[place + 1]]
            target = LABEL if name == self.label else name
            shape = (len(values), *self.spec[target].shape)
            if kind == kernels.BYTES:
                columns[target] = _objects(text, values, found.status).reshape(shape)
            elif kind == kernels.FLOATS:
                floats = values.astype(np.uint32).view(np.float32)
                columns[target] = _narrowed(floats, field.dtype, found.status).reshape(shape)
            else:
                columns[target] = _narrowed(values, field.dtype, found.status).reshape(shape)
        return columns

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""
        if found.status[row] == kernels.BAD_VALUE:
            for place, ((name, field), kind) in enumerate(
                zip(self.types.items(), self._kinds, strict=True)
            ):
                slots = self._features.slots
                values = found.values[row : row + 1, slots[place] : slots[place + 1]]
                if kind == kernels.FLOATS:
                    values = values.astype(np.uint32).view(np.float32)
                if kind != kernels.BYTES and len(values[0]):
                    beyond = ~_fits(values, np.dtype(field.dtype))[0]
                    if beyond.any():
                        value = values[0, int(np.argmax(beyond))]
                        return f"has {value} in feature {name!r}, which {field.dtype} cannot hold"
        return self._features.fault(found, row, self._kinds)


def _fits(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return which of some values a type can hold."""
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
    """Return values in a type, and mark the rows as bad that it cannot hold."""
    target = np.dtype(dtype)
    if np.can_cast(values.dtype, target):
        return values.astype(target)
    good = status == kernels.GOOD
    beyond = good & ~_fits(values, target).all(axis=1)
    if beyond.any():
        status[beyond] = kernels.BAD_VALUE
    with np.errstate(over="ignore"):
        return values.astype(target)


def _objects(
    text: NDArray[np.uint8], values: NDArray[np.int64], status: NDArray[np.uint8]
) -> NDArray[Any]:
    texts = np.empty(values.shape, object)
    texts[:] = b""
    for row in np.flatnonzero(status == kernels.GOOD).tolist():
        for place, packed in enumerate(values[row].tolist()):
            at, length = packed >> 32, packed & 0xFFFFFFFF
            texts[row, place] = text[at : at + length].tobytes()
    return texts


def _field(name: str, kind: Any, shape: tuple[int, ...]) -> Field:
    if kind in {"bytes", bytes}:
        return _sized(name, Field(np.dtype(object), tuple(shape)))
    try:
        found = np.dtype(kind)
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "biuf":
        raise EaiError(
            f"feature {name!r} is {kind!r}",
            'give "float32", "int64", "bytes" or another number',
            code="feature-invalid",
        )
    return _sized(name, Field(found, tuple(shape)))


def _sized(name: str, field: Field) -> Field:
    """Return a feature's type and shape.

    Raises:
        EaiError: The shape has no room for a value.
    """
    if any(size < 1 for size in field.shape):
        raise EaiError(
            f"feature {name!r} has shape {field.shape}",
            "give sizes of at least 1",
            code="feature-invalid",
        )
    return field


def _learned(first: Example) -> dict[str, Field]:
    types = {"bytes_list": object, "float_list": np.float32, "int64_list": np.int64}
    found = {}
    for name, feature in sorted(first.message.features.feature.items()):
        kind = feature.WhichOneof("kind")
        count = len(getattr(feature, kind).value) if kind else 0
        if kind is None or not count:
            raise EaiError(
                f"{first.file} record 1 has nothing in feature {name!r}",
                "say with `features` what to read, and the type and shape of each",
                code="features-unknown",
            )
        found[name] = Field(np.dtype(types[kind]), () if count == 1 else (count,))
    if not found:
        raise EaiError(
            f"{first.file} record 1 has no features",
            "say with `features` what to read",
            code="features-unknown",
        )
    return found
