"""Features of a click log from records of `tf.train.Example`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.clicklog.text_part import IDS, NUMBERS, spec_of
from eai_notebook.compiled.swar import PADDING
from eai_notebook.formats.tfrecord import example_kernels as kernels
from eai_notebook.formats.tfrecord.feature_readers import KIND_NAMES, Features
from eai_notebook.io.memory.alignment import aligned
from eai_notebook.io.part import LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_schema import ClickSchema
    from eai_notebook.formats.tfrecord.feature_readers import FoundFeatures
    from eai_notebook.io.part import Columns, Field


@dataclass(frozen=True)
class ClickExamples:
    """Reads the columns of a click schema, one feature each."""

    schema: ClickSchema
    label: str

    @cached_property
    def _features(self) -> Features:
        names = (self.label, *self.schema.integers, *self.schema.categorical)
        return Features(names, (1,) * len(names))

    @property
    def spec(self) -> Mapping[str, Field]:
        """The same as that of delimited text."""
        return spec_of(self.schema)

    def warm_up(self) -> None:
        """Compile now, not within the first step."""
        nothing = np.zeros(PADDING, np.uint8)
        self.columns(nothing, self.examples(nothing, 0))
        kernels.walk(nothing, 0, 0)

    def examples(self, text: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Find the features in the bytes of some records."""
        return self._features.find(text, rows)

    def columns(self, text: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Make columns of them, and mark more rows as bad."""
        rows, schema = len(found.status), self.schema
        numbers = aligned((rows, len(schema.integers)), np.dtype(np.float32))
        ids = aligned((rows, len(schema.categorical)), np.dtype(np.int32))
        labels = aligned((rows, 1), np.dtype(np.float32))
        kernels.click_features(
            text,
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
                    return f"has {KIND_NAMES[kinds[name]]} in {name}, which is no integer"
            return "has a categorical that is no 32-bit value"
        return self._features.fault(found, row, [0] * len(self._features.names))
