"""Compiled parser of `tf.train.Example` records.

A record is its length (8 bytes), the length's checksum (4), the data, the data's checksum (4).
The data is a protocol buffer: an Example holds Features, a map from a name to a Feature, which
is a list of byte strings, floats or 64-bit integers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.clicklog.bucket_hashing import bucket_of
from eai_notebook.clicklog.text_parser import LOG1P, SMALL
from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import hexadecimal, low32, word_at
from eai_notebook.compiled.varint import varint
from eai_notebook.formats.tfrecord.crc32c import BEGUN, add_word, masked_crc, rest_of_crc

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER: Final = 12
FRAME: Final = 16
"""Bytes of a record that are not its data: `HEADER` before it, a checksum after it."""

BYTES, FLOATS, INTEGERS = 1, 2, 3
"""The kinds of Feature, as the protocol buffer numbers them."""

LARGEST: Final = (1 << 31) - 1
"""Bytes of data in the largest record: protocol buffers end there, and offsets fit 31 bits."""

GOOD, BAD_SUM, BAD_EXAMPLE, BAD_COUNT, BAD_VALUE, BAD_KIND, ABSENT, BAD_LENGTH, SEQUENCE = range(9)
"""What can be wrong with a record."""

_ENTRY, _KEY, _VALUE = 0x0A, 0x0A, 0x12
_FEATURE_LISTS = 0x12  # in a SequenceExample, beside the Features that an Example has too
_PACKED, _ONE_FLOAT, _ONE_INTEGER = 0x0A, 0x0D, 0x08
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WORD = 8
_AT_ONCE: Final = 3  # records, see `_check_sums`
_LONGEST_NAME = np.uint64(_WORD)
_MORE = np.uint64(0x8080808080808080)
_ALL_BUT_LAST = np.uint64(0x00FFFFFFFFFFFFFF)
_UPPER_HALF = np.uint64(0xFFFFFFF0000000)
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_MOST, _LEAST = 0xFFFFFFFF, -(1 << 31)
_BYTE, _TWO_BYTES = np.uint64(0xFF), np.uint64(0xFFFF)

# A negative number has ten bytes: nine that say there are more, and the last one's single bit.
_LAST, _LAST_MASK = np.uint64(0x0180), np.uint64(0xFF80)
_SIGN = np.uint64(1 << 63)

# The first four bytes of an entry: its tag and length, its name's tag and length, both below 128.
_HEAD = np.uint64(_ENTRY | _KEY << 16)
_HEAD_MASK = np.uint64(0x80FF80FF)

# The six bytes before its value: tag and length of the Feature, of the list (its kind is in five
# bits of the tag), of the value. Each length is two more than the next one.
_TAIL = np.uint64(_VALUE | 4 << 8 | _LENGTH << 16 | 2 << 24 | _PACKED << 32)
_TAIL_MASK = np.uint64(0xFFFFFF07FFFF)
_EACH_LENGTH = np.uint64(1 << 8 | 1 << 24 | 1 << 40)


@njit(inline="always")
def _is_header(text: Any, at: Any) -> Any:
    return masked_crc(text, at, at + 8) == low32(text, at + 8)


@compiled
def walk(text: NDArray[np.uint8], end: int, stop: int) -> tuple[int, int, int]:
    """Pass over whole records that begin before `stop` and end by `end`.

    Returns how many, where the next one begins, and 1 if that is no record at all.
    """
    at = np.int64(0)
    count = 0
    while at < stop and at + HEADER <= end:
        if not _is_header(text, at):
            return count, at, 1
        length = np.int64(word_at(text, at))
        # (Compared this way round, no length can overflow.)
        if not 0 <= length <= end - at - FRAME or length > LARGEST:
            return count, at, 0
        at += FRAME + length
        count += 1
    return count, at, 0


@compiled
def record_starts(text: NDArray[np.uint8], end: int, starts: NDArray[np.int64]) -> int:
    """Note where each record begins, and return how many of them are whole by `end`."""
    at = np.int64(0)
    for row in range(len(starts)):
        if at + HEADER > end:
            return row
        length = np.int64(word_at(text, at))
        if not 0 <= length <= end - at - FRAME:
            return row
        starts[row] = at
        at += FRAME + length
    return len(starts)


@compiled
def next_record(text: NDArray[np.uint8], end: int, left: int) -> int:
    """Return where the first record begins, -1 if none does; `left` bytes are in the file."""
    for at in range(end - HEADER + 1):
        length = np.int64(word_at(text, at))
        if 0 <= length <= left - at - FRAME and _is_header(text, at):
            return at
    return -1


@njit
def _skip(text: Any, at: Any, end: Any, tag: Any) -> Any:
    """Return where a field ends that nobody asked for; -1 if it does not."""
    if tag < np.uint64(8) or tag > np.uint64(_MOST):  # there is no field 0
        return np.int64(-1)
    wire = np.int64(tag) & 7
    if wire == _VARINT:
        return varint(text, at, end)[1]
    size = np.int64(0)
    if wire == _LENGTH:
        length, at = varint(text, at, end)
        size = np.int64(length)
    elif wire == _FIXED64:
        size = np.int64(8)
    elif wire == _FIXED32:
        size = np.int64(4)
    else:
        return np.int64(-1)
    return at + size if at >= 0 and 0 <= size <= end - at else np.int64(-1)


@njit(inline="always")
def _inner(text: Any, at: Any, end: Any) -> Any:
    """Return where the contents of a field with a length begin and end; -1 if they do not."""
    length, at = varint(text, at, end)
    if at < 0 or length > np.uint64(end - at):
        return np.int64(-1), np.int64(-1)
    return at, at + np.int64(length)


@njit
def _feature(  # noqa: C901, PLR0911, PLR0912, PLR0915 - each way to be wrong ends it
    text: Any, at: Any, end: Any, begin: Any, room: Any, values: Any
) -> tuple[int, int]:
    """Read a Feature into ``values[begin:begin + room]``; return its kind and how many values.

    The kind is -1 if it cannot be read. Floats are kept as their bits, byte strings as
    ``place << 32 | length``.
    """
    kind = np.int64(0)
    count = np.int64(0)
    while at < end:
        tag, at = varint(text, at, end)
        if at < 0:
            return -1, 0
        found = np.int64(tag) >> 3
        if found < BYTES or found > INTEGERS or (np.int64(tag) & 7) != _LENGTH:
            at = _skip(text, at, end, tag)
            if at < 0:
                return -1, 0
            continue
        at, stop = _inner(text, at, end)
        # (Two lists in one Feature would have to be joined; nobody writes that.)
        if at < 0 or kind:
            return -1, 0
        kind = found
        while at < stop:
            inner, at = varint(text, at, stop)
            if at < 0:
                return -1, 0
            if kind == INTEGERS and inner == _ONE_INTEGER:
                value, at = varint(text, at, stop)
                if at < 0:
                    return -1, 0
                if count < room:
                    values[begin + count] = np.int64(value)
                count += 1
            elif kind == FLOATS and inner == _ONE_FLOAT:
                if stop - at < 4:  # noqa: PLR2004 - bytes of a float
                    return -1, 0
                if count < room:
                    values[begin + count] = np.int64(low32(text, at))
                count += 1
                at += 4
            elif inner == _PACKED:
                at, last = _inner(text, at, stop)
                if at < 0:
                    return -1, 0
                if kind == BYTES:
                    if count < room:
                        values[begin + count] = (at << 32) | (last - at)
                    count += 1
                    at = last
                elif kind == FLOATS:
                    if (last - at) & 3:
                        return -1, 0
                    while at < last:
                        if count < room:
                            values[begin + count] = np.int64(low32(text, at))
                        count += 1
                        at += 4
                else:
                    while at < last:
                        value, at = varint(text, at, last)
                        if at < 0:
                            return -1, 0
                        if count < room:
                            values[begin + count] = np.int64(value)
                        count += 1
            else:
                at = _skip(text, at, stop, inner)
                if at < 0:
                    return -1, 0
        at = stop
    return kind, count


@njit(inline="always")
def _is_key(text: Any, at: Any, length: Any, keys: Any, begin: Any, wanted: Any) -> Any:
    if length != wanted:
        return False
    done = np.int64(0)
    while done + 8 <= length:
        if word_at(text, at + done) != word_at(keys, begin + done):
            return False
        done += 8
    if done == length:
        return True
    spare = np.uint64(8 * (8 - (length - done)))
    return (word_at(text, at + done) ^ word_at(keys, begin + done)) << spare == np.uint64(0)


@njit(inline="always")
def _joined(word: Any) -> Any:
    """Return the number in 7 bits of each byte of a word, the first ones lowest."""
    # From 7 bits in each byte to 14 in each pair, 28 in each half, 56 in all.
    word = (word & np.uint64(0x007F007F007F007F)) | (
        (word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
    )
    word = (word & np.uint64(0x00003FFF00003FFF)) | (
        (word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
    )
    return (word & np.uint64(0xFFFFFFF)) | ((word >> np.uint64(4)) & _UPPER_HALF)


@njit(inline="always")
def _short_varint(word: Any, size: Any) -> Any:
    """Return the number in a word's first `size` bytes, 1 to 8; -1 if they are not just one."""
    spare = np.uint64(64) - np.uint64(8) * size
    word <<= spare
    if word & _MORE != (_MORE << spare) & _ALL_BUT_LAST:
        return np.int64(-1)
    return np.int64(_joined(word >> spare))


@njit(inline="always")
def _negative_varint(word: Any, rest: Any) -> Any:
    """Return the negative number in a word and two more bytes, `rest`; 0 if they are not one."""
    if word & _MORE != _MORE or rest & _LAST_MASK != _LAST:
        return np.int64(0)
    return np.int64(_joined(word) | ((rest & np.uint64(0x7F)) << np.uint64(56)) | _SIGN)


@njit
def _quick(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one loop, and arrays, for the reason below
    text: Any,
    at: Any,
    end: Any,
    guess: Any,
    words: Any,
    sizes: Any,
    slots: Any,
    row: Any,
    values: Any,
    kinds: Any,
) -> tuple[int, int, bool]:
    """Read entries of one small value under a short name, as nearly all are, from `at` on.

    Eight bytes are looked at together: the entry's tags and lengths, the name, the value's tags
    and lengths, which all follow from the entry's own length. Numbers are unsigned, which spares
    a look at whether they count from the end. It is one loop and no function of its own for each
    entry, because an array that is handed over, even inline, is counted by an atomic instruction.

    Returns where the first other entry begins, or the end, which is left to those who look more
    closely; the feature to expect there; and whether one should have had more than one value.
    """
    one, features = np.uint64(1), np.uint64(len(words))
    many = False
    while at < end:
        head = word_at(text, at)
        size = (head >> np.uint64(8)) & _BYTE
        name = (head >> np.uint64(24)) & _BYTE
        after = at + np.uint64(2) + size
        if head & _HEAD_MASK != _HEAD or after > end:
            break
        if name > _LONGEST_NAME or name + np.uint64(8) > size:
            break
        key = word_at(text, at + np.uint64(4)) & _FIRST_BYTES[name]
        which, tried = guess, np.uint64(0)
        while tried < features and (words[which] != key or sizes[which] != name):
            which = which + one if which + one < features else np.uint64(0)
            tried += one
        if tried == features:
            break
        size -= name + np.uint64(8)
        tail = word_at(text, at + np.uint64(4) + name)
        if tail & _TAIL_MASK != _TAIL + size * _EACH_LENGTH:
            break
        kind = (tail >> np.uint64(19)) & np.uint64(0x1F)
        place = after - size
        if kind == np.uint64(INTEGERS) and np.uint64(0) < size <= np.uint64(8):
            value = _short_varint(word_at(text, place), size)
            if value < 0:
                break
        elif kind == np.uint64(INTEGERS) and size == np.uint64(10):
            value = _negative_varint(
                word_at(text, place), word_at(text, place + np.uint64(8)) & _TWO_BYTES
            )
            if value == 0:
                break
        elif kind == np.uint64(BYTES):
            value = np.int64((place << np.uint64(32)) | size)
        elif kind == np.uint64(FLOATS) and size == np.uint64(4):
            value = np.int64(word_at(text, place) & np.uint64(_MOST))
        else:
            break
        slot = np.uint64(slots[which])
        if np.uint64(slots[which + one]) == slot:
            break  # no room for a value
        kinds[row, which] = kind
        values[row, slot] = value
        many |= np.uint64(slots[which + one]) - slot != one
        guess = which + one if which + one < features else np.uint64(0)
        at = after
    return np.int64(at), np.int64(guess), many


@njit
def _check_sums(text: Any, record: Any, first: Any, last: Any, status: Any) -> None:
    """Mark the rows from `first` to `last` of which the first begins at a byte: `GOOD` or `BAD_SUM`.

    Three at a time, as the processor's instruction for it takes three cycles, of which others can
    use two.
    """
    if last - first < _AT_ONCE:
        for row in range(first, last):
            begin = record + HEADER
            record = begin + np.int64(word_at(text, record)) + 4
            right = masked_crc(text, begin, record - 4) == low32(text, record - 4)
            status[row] = GOOD if right else BAD_SUM
        return
    one = record + HEADER
    one_end = one + np.int64(word_at(text, record))
    two = one_end + FRAME
    two_end = two + np.int64(word_at(text, one_end + 4))
    three = two_end + FRAME
    three_end = three + np.int64(word_at(text, two_end + 4))
    common = min(one_end - one, two_end - two, three_end - three) & ~(_WORD - 1)
    a, b, c = BEGUN, BEGUN, BEGUN
    for at in range(0, common, _WORD):
        a = add_word(a, word_at(text, one + at))
        b = add_word(b, word_at(text, two + at))
        c = add_word(c, word_at(text, three + at))
    right = rest_of_crc(text, a, one + common, one_end) == low32(text, one_end)
    status[first] = GOOD if right else BAD_SUM
    right = rest_of_crc(text, b, two + common, two_end) == low32(text, two_end)
    status[first + 1] = GOOD if right else BAD_SUM
    right = rest_of_crc(text, c, three + common, three_end) == low32(text, three_end)
    status[first + 2] = GOOD if right else BAD_SUM


@compiled
def examples(  # noqa: C901, PLR0912, PLR0915 - one walk over nested messages
    text: NDArray[np.uint8],
    keys: NDArray[np.uint8],
    key_begins: NDArray[np.int64],
    slots: NDArray[np.int64],
    values: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    starts: NDArray[np.int64],
    status: NDArray[np.uint8],
) -> None:
    """Read one record a row.

    Args:
        text: Whole records, with 16 more bytes after them. Nothing beyond those is read,
            whatever the records say: rows that are not whole are `BAD_LENGTH`.
        keys: The names of the features one after the other, with 8 more bytes.
        key_begins: Where each name begins, and the last one ends.
        slots: Where each feature's values begin in a row of `values`, and the last one's end.
        values: What was found, see `_feature`.
        kinds: The kind of each row's features, 0 where absent or empty.
        starts: Where each record begins.
        status: `GOOD`, `BAD_SUM`, `BAD_EXAMPLE`, `BAD_COUNT`, `BAD_LENGTH` or `SEQUENCE`.
    """
    features = len(slots) - 1
    lengths = key_begins[1:] - key_begins[:-1]
    sizes = lengths.astype(np.uint64)
    words = np.zeros(features, np.uint64)
    for which in range(features):
        if lengths[which] <= _WORD:
            words[which] = word_at(keys, key_begins[which]) & _FIRST_BYTES[lengths[which]]
    guess = np.int64(0)
    whole = record_starts(text, len(text) - FRAME, starts)
    for row in range(whole, len(status)):
        status[row] = BAD_LENGTH
        kinds[row] = 0
        starts[row] = starts[row - 1] if row else 0
    for row in range(whole):
        record = starts[row]
        if row % _AT_ONCE == 0:
            _check_sums(text, record, row, min(row + _AT_ONCE, whole), status)
        kinds[row] = 0
        at = record + HEADER
        stop = at + np.int64(word_at(text, record))
        if status[row] == BAD_SUM:
            continue
        status[row] = BAD_EXAMPLE
        good = True
        count_wrong = sequence = False
        while good and at < stop:
            tag, at = varint(text, at, stop)
            if at < 0 or tag != _ENTRY:
                sequence |= at >= 0 and tag == _FEATURE_LISTS
                at = _skip(text, at, stop, tag) if at >= 0 else at
                good = at >= 0
                continue
            at, features_end = _inner(text, at, stop)
            if at < 0:
                good = False
                break
            while good and at < features_end:
                at, guess, many = _quick(
                    text,
                    np.uint64(at),
                    np.uint64(features_end),
                    np.uint64(guess),
                    words,
                    sizes,
                    slots,
                    np.uint64(row),
                    values,
                    kinds,
                )
                count_wrong |= many
                if at >= features_end:
                    break
                tag, at = varint(text, at, features_end)
                if at < 0 or tag != _ENTRY:
                    at = _skip(text, at, features_end, tag) if at >= 0 else at
                    good = at >= 0
                    continue
                at, entry_end = _inner(text, at, features_end)
                key, key_end = np.int64(0), np.int64(0)
                place, place_end = np.int64(0), np.int64(0)
                good = at >= 0
                while good and at < entry_end:
                    tag, at = varint(text, at, entry_end)
                    if at < 0:
                        good = False
                    elif tag == _KEY:
                        key, key_end = _inner(text, at, entry_end)
                        at = key_end
                    elif tag == _VALUE and place == 0:
                        place, place_end = _inner(text, at, entry_end)
                        at = place_end
                    elif tag == _VALUE:
                        at = np.int64(-1)  # two would have to be joined; nobody writes that
                    else:
                        at = _skip(text, at, entry_end, tag)
                    good = at >= 0
                if not good:
                    break
                # The features of one record mostly follow each other like those of the last.
                which = np.int64(-1)
                for step in range(features):
                    candidate = guess + step
                    if candidate >= features:
                        candidate -= features
                    begin = key_begins[candidate]
                    size = key_begins[candidate + 1] - begin
                    if _is_key(text, key, key_end - key, keys, begin, size):
                        which = candidate
                        break
                if which < 0:
                    continue
                guess = which + 1 if which + 1 < features else 0
                first = slots[which]
                room = slots[which + 1] - first
                kind, count = _feature(text, place, place_end, first, room, values[row])
                if kind < 0:
                    good = False
                else:
                    # (Of a name that comes twice, the last one counts, empty or not.)
                    kinds[row, which] = kind if count else 0
                    count_wrong |= count not in (0, room)
        if good:
            status[row] = SEQUENCE if sequence else BAD_COUNT if count_wrong else GOOD


@compiled
def click_features(  # noqa: PLR0913, PLR0917 - arrays, for a compiler that knows no objects
    text: NDArray[np.uint8],
    values: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    labels: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> None:
    """Make features of one slot a field: the label, the integers, the categoricals."""
    integers = numbers.shape[1]
    categoricals = ids.shape[1]
    raw = np.empty(categoricals, np.int64)
    for row in range(len(status)):
        if status[row] != GOOD:
            continue
        label = values[row, 0]
        wrong = kinds[row, 0] != INTEGERS or label < 0 or label > 1
        labels[row, 0] = np.float32(label)
        for column in range(integers):
            kind = kinds[row, 1 + column]
            value = values[row, 1 + column]
            if kind == 0:
                numbers[row, column] = missing_integer
                continue
            wrong |= kind != INTEGERS
            size = abs(value)
            log = LOG1P[size] if 0 <= size < SMALL else np.float32(math.log1p(abs(float(value))))
            numbers[row, column] = -log if value < 0 else log
        for column in range(categoricals):
            kind = kinds[row, 1 + integers + column]
            value = values[row, 1 + integers + column]
            if kind == BYTES:
                length = value & _MOST
                value = np.int64(hexadecimal(word_at(text, value >> 32))) if length == 8 else -1  # noqa: PLR2004
                wrong |= value < 0 and length != 0
                kind = np.uint8(0) if length == 0 else np.uint8(INTEGERS)
            wrong |= kind == FLOATS or (kind != 0 and (value > _MOST or value < _LEAST))
            raw[column] = value if kind != 0 else np.int64(-1) << 32
        for column in range(categoricals):
            bucket = bucket_of(np.uint32(raw[column]), column, buckets[column])
            ids[row, column] = np.int32(0) if raw[column] < _LEAST else bucket
        if wrong:
            status[row] = BAD_VALUE
