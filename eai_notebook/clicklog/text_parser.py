"""Compiled parser of click-log text; releases the interpreter lock.

The readers spend most of their time here, and it runs in threads beside TensorFlow, so it
is compiled, releases the GIL, and touches each byte once: numbers are read, transformed and
hashed in one pass, with no string made on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from eai_notebook.clicklog.bucket_hashing import bucket_of
from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import PADDING, bytes_before, decimal, hexadecimal, word_at
from eai_notebook.io.memory.alignment import aligned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_schema import ClickSchema

_TAB, _NEWLINE, _RETURN, _MINUS, _ZERO, _NINE = 9, 10, 13, 45, 48, 57
_MOST_DIGITS = 19  # of an int64
_MOST = np.uint64((1 << 63) - 1)
_TABS = np.uint64(0x0909090909090909)
_LOW_BYTE = np.uint64(0xFF)
_WORD = 8  # bytes

MISSING: Final = np.iinfo(np.int64).min
"""Marks a missing one among integers as they stand in the text."""
SMALL = 4096  # integers below this have their logarithm looked up


LOG1P = np.log1p(np.arange(SMALL)).astype(np.float32)


@njit(inline="always")
def _long_integer(text: NDArray[np.uint8], pos: int, last: int) -> tuple[np.int64, np.int64]:
    """Return an integer of any length that ends with a byte, and its digits; -1 if it is none."""
    first = pos
    value = np.uint64(0)
    while _ZERO <= text[pos] <= _NINE and pos - first < _MOST_DIGITS:
        value = value * np.uint64(10) + np.uint64(text[pos] - _ZERO)  # below 2**64
        pos += 1
    if text[pos] != last or pos == first or value > _MOST:
        return np.int64(-1), np.int64(0)
    return np.int64(value), np.int64(pos - first)


@compiled
def _parse(  # noqa: C901, PLR0911, PLR0912, PLR0913, PLR0915, PLR0917 - one pass over the bytes, on purpose
    text: NDArray[np.uint8],
    begin: int,
    end: int,
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    labels: NDArray[np.float32],
    raw_integers: NDArray[np.int64],
    raw_values: NDArray[np.int64],
) -> tuple[int, int]:
    """Parse whole rows; return how many, and where it stopped: `end`, or a bad row's begin.

    The values as they stand in the text are kept too, where there is room for them.
    """
    keep = len(raw_values) > 0
    integers = numbers.shape[1]
    categoricals = ids.shape[1]
    # (Without categoricals it is an integer, or the label, that ends with the line.)
    before_end = integers if categoricals else max(integers - 1, 0)
    words = np.empty(categoricals, np.uint64)
    row = 0
    pos = begin
    while pos < end:
        row_begin = pos
        label = text[pos]
        if label != _ZERO and label != _ZERO + 1:
            return row, row_begin
        labels[row, 0] = np.float32(label - _ZERO)
        pos += 1
        if integers + categoricals:
            if text[pos] != _TAB:
                return row, row_begin
            pos += 1

        for column in range(before_end):
            word = word_at(text, pos)
            if (word & _LOW_BYTE) == _TAB:
                numbers[row, column] = missing_integer
                if keep:
                    raw_integers[row, column] = MISSING
                pos += 1
                continue
            negative = (word & _LOW_BYTE) == _MINUS
            if negative:
                pos += 1
                word = word_at(text, pos)
            digits = bytes_before(word, _TABS)
            if digits == 0:
                return row, row_begin
            if digits < _WORD:
                value = decimal(word, digits)
            else:
                value, digits = _long_integer(text, pos, _TAB)
            if value < 0:
                return row, row_begin
            pos += digits + 1
            size = LOG1P[value] if value < SMALL else np.float32(math.log1p(value))
            numbers[row, column] = -size if negative else size
            if keep:
                raw_integers[row, column] = -value if negative else value

        for column in range(before_end, integers):
            negative = text[pos] == _MINUS
            pos += 1 if negative else 0
            value, digits = np.int64(0), np.int64(0)
            empty = not negative and (text[pos] == _NEWLINE or text[pos] == _RETURN)
            if not empty:
                end_of_line = pos
                while _ZERO <= text[end_of_line] <= _NINE:
                    end_of_line += 1
                value, digits = _long_integer(text, pos, text[end_of_line])
                if value < 0:
                    return row, row_begin
                pos += digits
            size = LOG1P[value] if value < SMALL else np.float32(math.log1p(value))
            numbers[row, column] = missing_integer if empty else -size if negative else size
            if keep:
                raw_integers[row, column] = MISSING if empty else -value if negative else value
        if not categoricals:
            if text[pos] == _RETURN:
                pos += 1
            if text[pos] != _NEWLINE:
                return row, row_begin
            pos += 1

        for column in range(categoricals):
            end_of_field = _NEWLINE if column == categoricals - 1 else _TAB
            word = word_at(text, pos)
            length = 0 if (word & _LOW_BYTE) == _TAB else _WORD
            if end_of_field == _NEWLINE:
                if text[pos] == _NEWLINE or text[pos] == _RETURN:
                    length = 0
                if text[pos + length] == _RETURN:
                    length += 1
            if text[pos + length] != end_of_field:
                return row, row_begin
            words[column] = word if length >= _WORD else _TABS
            pos += length + 1

        # Apart from the walk above, so that it runs on several columns at once.
        wrong = np.int64(0)
        for column in range(categoricals):
            word = words[column]
            value = hexadecimal(word)
            missing = word == _TABS
            wrong |= np.int64(0) if missing else value
            bucket = bucket_of(np.uint32(value), column, buckets[column])
            ids[row, column] = np.int32(0) if missing else bucket
            if keep:
                raw_values[row, column] = np.int64(-1) if missing else value
        if wrong < 0:
            return row, row_begin
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
class Raw:
    """Rows as they stand in the text.

    Attributes:
        integers: int64 ``[rows, integers]``, `MISSING` where missing.
        values: int64 ``[rows, categoricals]``, the 32-bit values, -1 where missing.
    """

    integers: NDArray[np.int64]
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Parsed:
    """Rows, where in the text each bad row began that was left out, and perhaps raw values."""

    rows: Rows
    bad: tuple[int, ...]
    raw: Raw

    def without_last(self, begin: int) -> Parsed:
        """Return all but the last row, which begins at a byte and is bad after all."""
        rows, raw = self.rows, self.raw
        return Parsed(
            Rows(rows.numbers[:-1], rows.ids[:-1], rows.labels[:-1]),
            (*self.bad, begin),
            Raw(raw.integers[:-1], raw.values[:-1]),
        )


def parse(
    text: NDArray[np.uint8], end: int, schema: ClickSchema, count: int, *, raw: bool = False
) -> Parsed:
    """Parse ``text[:end]``, which must end with a newline and hold at most `count` rows.

    Args:
        text: uint8 bytes, with `PADDING` more bytes after `end`.
        end: Where the text ends.
        schema: What the columns are.
        count: How many rows there are, bad ones included.
        raw: Keep the values as they stand in the text, too.

    Returns:
        The good rows, in order, and where each bad one began.
    """
    buckets = np.asarray(schema.buckets, np.int32)
    numbers = aligned((count, len(schema.integers)), np.dtype(np.float32))
    ids = aligned((count, len(schema.categorical)), np.dtype(np.int32))
    labels = aligned((count, 1), np.dtype(np.float32))
    kept = count if raw else 0
    integers = np.empty((kept, len(schema.integers)), np.int64)
    values = np.empty((kept, len(schema.categorical)), np.int64)
    bad: list[int] = []
    done, pos = 0, 0
    while pos < end:
        rows, pos = _parse(
            text,
            pos,
            end,
            schema.missing_integer,
            buckets,
            numbers[done:],
            ids[done:],
            labels[done:],
            integers[done:],
            values[done:],
        )
        done += rows
        if pos < end:
            bad.append(pos)
            pos = next_row(text, pos, end)
    return Parsed(
        Rows(numbers[:done], ids[:done], labels[:done]),
        tuple(bad),
        Raw(integers[:done], values[:done]),
    )


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
