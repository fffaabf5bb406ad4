"""`ClickExamples`: reads a click log's features from records of `tf.train.Example`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.clicklog import click_kernels
from eai_notebook.clicklog.text_part import IDS, NUMBERS, spec_of
from eai_notebook.compiled.swar import PADDING
from eai_notebook.formats.tfrecord import example_kernels as kernels
from eai_notebook.formats.tfrecord.feature_readers import KIND_NAMES, Features
from eai_notebook.io.memory.alignment import aligned
from eai_notebook.io.part import LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_columns import ClickColumns
    from eai_notebook.formats.tfrecord.feature_readers import FoundFeatures
    from eai_notebook.io.part import Columns, Field


HEXADECIMAL_DIGITS: Final = 8
"""Length of a categorical that is written as text."""


@dataclass(frozen=True)
class ClickExamples:
    """Reads the columns of a click schema, one feature each."""

    schema: ClickColumns
    label: str

    @cached_property
    def _features(self) -> Features:
        names = (self.label, *self.schema.integers, *self.schema.categorical)
        return Features(names, (1,) * len(names))

    @property
    def spec(self) -> Mapping[str, Field]:
        """The same as for delimited text."""
        return spec_of(self.schema)

    def warm_up(self) -> None:
        """Compile the kernels now, not within the first step."""
        empty = np.zeros(PADDING, np.uint8)
        self.columns(empty, self.examples(empty, 0))
        kernels.count_records(empty, 0, 0)

    def examples(self, data: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Parse the bytes of some records."""
        return self._features.find(data, rows)

    def columns(self, data: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Return columns of the records, and set the status of further bad rows."""
        rows, schema = len(found.status), self.schema
        numbers = aligned((rows, len(schema.integers)), np.dtype(np.float32))
        ids = aligned((rows, len(schema.categorical)), np.dtype(np.int32))
        labels = aligned((rows, 1), np.dtype(np.float32))
        click_kernels.example_features(
            data,
            found.values,
            found.kinds,
            schema.missing_integer,
            np.asarray(schema.buckets, np.int32),
            numbers,
            ids,
            labels,
            found.status,
        )
        return {NUMBERS: numbers, IDS: ids, LABEL: labels}

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""
        if found.status[row] == kernels.BAD_VALUE:
            names = self._features.names
            values = dict(zip(names, found.values[row].tolist(), strict=True))
            kinds = dict(zip(names, found.kinds[row].tolist(), strict=True))
            if kinds[self.label] != kernels.INTEGERS:
                return f"has {KIND_NAMES[kinds[self.label]]} in feature {self.label!r}"
            if values[self.label] not in {0, 1}:
                return f"has label {values[self.label]}, which is neither 0 nor 1"
            for name in self.schema.integers:
                if kinds[name] not in {0, kernels.INTEGERS}:
                    return f"has {KIND_NAMES[kinds[name]]} in {name} instead of integers"
            for name in self.schema.categorical:
                if not _may_be_categorical(kinds[name], values[name]):
                    return f"has a value in {name} that is not a 32-bit number"
            return "has a categorical that is not a 32-bit number"
        return self._features.fault(found, row, [0] * len(self._features.names))


def _may_be_categorical(kind: int, value: int) -> bool:
    """Return whether a value can be a categorical, without a look at the digits of text."""
    if kind == kernels.BYTES:
        return value & 0xFFFFFFFF in {0, HEXADECIMAL_DIGITS}
    return kind == 0 or (kind == kernels.INTEGERS and -(1 << 31) <= value < 1 << 32)
