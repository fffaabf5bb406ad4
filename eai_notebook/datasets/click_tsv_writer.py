"""Compiled writer of generated rows as Criteo's tab-separated text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.compiled.jit import compiled
from eai_notebook.datasets.click_model import INTEGERS, MISSING, Batch
from eai_notebook.datasets.click_recipes import CATEGORICALS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_ROW = 2 + 21 * INTEGERS + 9 * CATEGORICALS
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8).copy()
_MISSING = int(MISSING)
_TAB, _NEWLINE, _MINUS, _ZERO = 9, 10, 45, 48


@compiled
def _write(
    labels: NDArray[np.uint8],
    integers: NDArray[np.int64],
    values: NDArray[np.uint32],
    missing: NDArray[np.bool_],
    text: NDArray[np.uint8],
) -> int:
    pos = 0
    for row in range(len(labels)):
        text[pos] = labels[row] + _ZERO
        pos += 1
        for column in range(integers.shape[1]):
            text[pos] = _TAB
            pos += 1
            value = integers[row, column]
            if value == _MISSING:
                continue
            if value < 0:
                text[pos] = _MINUS
                pos += 1
                value = -value
            digits = 1
            rest = value // 10
            while rest > 0:
                digits += 1
                rest //= 10
            for digit in range(digits - 1, -1, -1):
                text[pos + digit] = _ZERO + value % 10
                value //= 10
            pos += digits
        for column in range(values.shape[1]):
            text[pos] = _TAB
            pos += 1
            if missing[row, column]:
                continue
            word = np.int64(values[row, column])
            for digit in range(8):
                text[pos + digit] = _DIGITS[(word >> (28 - 4 * digit)) & 15]
            pos += 8
        text[pos] = _NEWLINE
        pos += 1
    return pos


def to_text(batch: Batch) -> NDArray[np.uint8]:
    """Return the rows of `batch` as the bytes of a tab-separated file."""
    text = np.empty(len(batch.labels) * _MAX_ROW, np.uint8)
    end = _write(batch.labels, batch.integers, batch.values, batch.missing, text)
    return text[:end]
