"""Parse the bytes of a click log into arrays, without holding the interpreter.

The readers spend most of their time here, and it runs in threads beside TensorFlow, so it
is compiled, releases the GIL, and touches each byte once: numbers are read, transformed and
hashed in one pass, with no string made on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.io.compiled import compiled
from eai_notebook.io.hashing import bucket_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.io.schema import ClickSchema

PADDING: Final = 16
"""Bytes a text buffer must have after its last row: the parser looks ahead that far."""

_TAB, _NEWLINE, _RETURN, _MINUS, _ZERO, _NINE = 9, 10, 13, 45, 48, 57
_MOST_DIGITS = 18  # so that an int64 never overflows
_LARGEST_DIGIT = 15
_SMALL = 4096  # integers below this have their logarithm looked up


def _hex_table() -> NDArray[np.uint8]:
    table = np.full(256, 255, np.uint8)
    for value, digit in enumerate("0123456789abcdef"):
        table[ord(digit)] = table[ord(digit.upper())] = value
    return table


_HEX = _hex_table()
_LOG1P = np.log1p(np.arange(_SMALL)).astype(np.float32)


@compiled
def _parse(  # noqa: C901, PLR0912, PLR0915 - one pass over the bytes, on purpose
    text: NDArray[np.uint8],
    begin: int,
    end: int,
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    labels: NDArray[np.float32],
) -> tuple[int, int]:
    """Parse whole rows; return how many, and where it stopped: `end`, or a bad row's begin."""
    integers = numbers.shape[1]
    categoricals = ids.shape[1]
    row = 0
    pos = begin
    while pos < end:
        row_begin = pos
        label = text[pos]
        if (label != _ZERO and label != _ZERO + 1) or text[pos + 1] != _TAB:
            return row, row_begin
        labels[row, 0] = np.float32(label - _ZERO)
        pos += 2

        for column in range(integers):
            byte = text[pos]
            if byte == _TAB:
                numbers[row, column] = missing_integer
                pos += 1
                continue
            negative = byte == _MINUS
            if negative:
                pos += 1
                byte = text[pos]
            first = pos
            value = np.int64(0)
            while _ZERO <= byte <= _NINE and pos - first < _MOST_DIGITS:
                value = value * 10 + np.int64(byte - _ZERO)
                pos += 1
                byte = text[pos]
            if pos == first or byte != _TAB:
                return row, row_begin
            pos += 1
            size = _LOG1P[value] if value < _SMALL else np.float32(math.log1p(value))
            numbers[row, column] = -size if negative else size

        for column in range(categoricals):
            last = column == categoricals - 1
            byte = text[pos]
            if byte == (_NEWLINE if last else _TAB):
                ids[row, column] = 0
                pos += 1
                continue
            if last and byte == _RETURN and text[pos + 1] == _NEWLINE:
                ids[row, column] = 0
                pos += 2
                continue
            word = np.uint32(0)
            wrong = np.uint8(0)
            for digit in range(8):
                nibble = _HEX[text[pos + digit]]
                wrong |= nibble
                word = np.uint32((word << np.uint32(4)) | np.uint32(nibble))
            if wrong > _LARGEST_DIGIT:
                return row, row_begin
            pos += 8
            byte = text[pos]
            if last and byte == _RETURN:
                pos += 1
                byte = text[pos]
            if byte != (_NEWLINE if last else _TAB):
                return row, row_begin
            pos += 1
            ids[row, column] = bucket_of(word, column, buckets[column])
        row += 1
    return row, pos


@dataclass(frozen=True)
class Rows:
    """Parsed rows: what a model sees.

    Attributes:
        numbers: float32 ``[rows, integers]``, transformed.
        ids: int32 ``[rows, categoricals]``, buckets.
        labels: float32 ``[rows, 1]``: a column, so that it meets a model's ``[rows, 1]``
            output without broadcasting to ``[rows, rows]``.
    """

    numbers: NDArray[np.float32]
    ids: NDArray[np.int32]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Parsed:
    """Rows, and where in the text each bad row began that was left out."""

    rows: Rows
    bad: tuple[int, ...]


def parse(text: NDArray[np.uint8], end: int, schema: ClickSchema, count: int) -> Parsed:
    """Parse ``text[:end]``, which must end with a newline and hold at most `count` rows.

    Args:
        text: uint8 bytes, with `PADDING` more bytes after `end`.
        end: Where the text ends.
        schema: What the columns are.
        count: How many rows there are, bad ones included.

    Returns:
        The good rows, in order, and where each bad one began.
    """
    buckets = np.asarray(schema.buckets, np.int32)
    numbers = np.empty((count, len(schema.integers)), np.float32)
    ids = np.empty((count, len(schema.categorical)), np.int32)
    labels = np.empty((count, 1), np.float32)
    bad: list[int] = []
    done, pos = 0, 0
    while True:
        rows, pos = _parse(
            text,
            pos,
            end,
            schema.missing_integer,
            buckets,
            numbers[done:],
            ids[done:],
            labels[done:],
        )
        done += rows
        if pos >= end:
            return Parsed(Rows(numbers[:done], ids[:done], labels[:done]), tuple(bad))
        bad.append(pos)
        pos = next_row(text, pos, end)
        if pos >= end:
            return Parsed(Rows(numbers[:done], ids[:done], labels[:done]), tuple(bad))


def next_row(text: NDArray[np.uint8], pos: int, end: int) -> int:
    """Return where the row after the one at `pos` begins."""
    window = 4096
    while pos < end:
        found = np.flatnonzero(text[pos : min(pos + window, end)] == _NEWLINE)
        if len(found):
            return pos + int(found[0]) + 1
        pos += window
    return end


def warm_up(schema: ClickSchema) -> None:
    """Compile the parser now (or load it from the disk cache), not within the first step."""
    row = "0" + "\t" * (schema.fields - 1) + "\n"
    text = np.frombuffer(row.encode() + bytes(PADDING), np.uint8).copy()
    parse(text, len(row), schema, 1)
