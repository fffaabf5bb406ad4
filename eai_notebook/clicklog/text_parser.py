"""Compiled parser of click-log text; releases the interpreter lock.

The readers spend most of their time here, in threads beside TensorFlow. So the parser is compiled,
and reads, transforms and hashes values in one pass over the bytes, without strings. `row_errors` is
a second, slow parser of the same grammar.
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

    from eai_notebook.clicklog.click_columns import ClickColumns

_TAB, _NEWLINE, _RETURN, _MINUS, _ZERO, _NINE = 9, 10, 13, 45, 48, 57
_MAX_DIGITS = 19  # of an int64
_MAX_INT64 = np.uint64((1 << 63) - 1)
_TABS = np.uint64(0x0909090909090909)
_LOW_BYTE = np.uint64(0xFF)
_WORD = 8  # bytes

MISSING: Final = np.iinfo(np.int64).min
"""The raw value of a missing integer."""

SMALL = 4096  # smaller integers have their logarithm in a table

LOG1P = np.log1p(np.arange(SMALL)).astype(np.float32)


@njit(inline="always")
def _long_integer(text: NDArray[np.uint8], pos: int, last: int) -> tuple[np.int64, np.int64]:
    """Return an integer that is followed by `last`, and its number of digits; -1 if it is invalid."""
    first = pos
    value = np.uint64(0)
    while _ZERO <= text[pos] <= _NINE and pos - first < _MAX_DIGITS:
        value = value * np.uint64(10) + np.uint64(text[pos] - _ZERO)  # below 2**64
        pos += 1
    if text[pos] != last or pos == first or value > _MAX_INT64:
        return np.int64(-1), np.int64(0)
    return np.int64(value), np.int64(pos - first)


@compiled
def _parse(  # noqa: C901, PLR0911, PLR0912, PLR0913, PLR0915, PLR0917 - one pass over the bytes
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
    """Parse whole rows; return their number, and the offset of the first bad row, or `end`.

    Raw values are stored too, if their arrays are not empty.
    """
    keep = len(raw_values) > 0
    integers = numbers.shape[1]
    categoricals = ids.shape[1]
    # (Without categoricals, an integer or the label is the last field of a line.)
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

        # A loop of its own, so that the compiler vectorizes it over columns.
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
    """Parsed rows: a model's features and labels.

    Attributes:
        numbers: float32 ``[rows, integers]``, transformed.
        ids: int32 ``[rows, categoricals]``, buckets.
        labels: float32 ``[rows, 1]``, the shape of a model's output: ``[rows]`` beside it would
            broadcast to ``[rows, rows]``.
    """

    numbers: NDArray[np.float32]
    ids: NDArray[np.int32]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Raw:
    """The raw values of rows, before they are transformed and hashed.

    Attributes:
        integers: int64 ``[rows, integers]``, `MISSING` where missing.
        values: int64 ``[rows, categoricals]``, the 32-bit values, -1 where missing.
    """

    integers: NDArray[np.int64]
    values: NDArray[np.int64]


@dataclass(frozen=True)
class Parsed:
    """The good rows, the offset of each bad row, and the raw values, if they were requested."""

    rows: Rows
    bad: tuple[int, ...]
    raw: Raw

    def without_last(self, begin: int) -> Parsed:
        """Return the result with the last row, at offset `begin`, counted as bad."""
        rows, raw = self.rows, self.raw
        return Parsed(
            Rows(rows.numbers[:-1], rows.ids[:-1], rows.labels[:-1]),
            (*self.bad, begin),
            Raw(raw.integers[:-1], raw.values[:-1]),
        )


def parse(
    text: NDArray[np.uint8], end: int, schema: ClickColumns, count: int, *, raw: bool = False
) -> Parsed:
    """Parse ``text[:end]``, which must end with a newline and hold at most `count` rows.

    Args:
        text: uint8 bytes, with `PADDING` more bytes after `end`.
        end: Number of bytes to parse.
        schema: The columns.
        count: Number of rows, including bad ones.
        raw: Keep the raw values, too.

    Returns:
        The good rows, in order, and the offset of each bad one.
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
    """Return the offset of the row after the one at `pos`."""
    window = 4096
    while pos < end:
        found = np.flatnonzero(text[pos : min(pos + window, end)] == _NEWLINE)
        if len(found):
            return pos + int(found[0]) + 1
        pos += window
    return end


def warm_up(schema: ClickColumns) -> None:
    """Compile the parser, or load it from the disk cache, now and not within the first step."""
    row = "0" + "\t" * (schema.fields - 1) + "\n"
    text = np.frombuffer(row.encode() + bytes(PADDING), np.uint8).copy()
    parse(text, len(row), schema, 1)
