"""Compiled parser of `tf.train.Example` records.

A record is its length (8 bytes), the length's checksum (4), the data, the data's checksum (4).
The data is a protocol buffer: an Example holds Features, a map from a name to a Feature, which
is a list of byte strings, floats or 64-bit integers. The tests compare every kernel with
TensorFlow's parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import low32, word_at
from eai_notebook.compiled.varint import varint
from eai_notebook.formats.tfrecord.crc32c import INITIAL, add_word, finish_crc, masked_crc

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER: Final = 12
FRAME: Final = 16
"""Bytes of a record around its data: `HEADER` before it, a checksum after it."""

BYTES, FLOATS, INTEGERS = 1, 2, 3
"""The kinds of Feature, by their field number in the protocol buffer."""

MAX_DATA: Final = (1 << 31) - 1
"""The largest record's bytes of data: the limit of protocol buffers; offsets fit 31 bits."""

GOOD, BAD_CRC, BAD_EXAMPLE, BAD_COUNT, BAD_VALUE, BAD_KIND, ABSENT, BAD_LENGTH, SEQUENCE = range(9)
"""The status of a record: good, or what is wrong with it."""

_ENTRY, _KEY, _VALUE = 0x0A, 0x0A, 0x12
_FEATURE_LISTS = 0x12  # the field that a SequenceExample has and an Example has not
_PACKED, _ONE_FLOAT, _ONE_INTEGER = 0x0A, 0x0D, 0x08
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WORD = 8
_AT_ONCE: Final = 3  # records, see `_check_crcs`
_MAX_SIMPLE_NAME = np.uint64(_WORD)
_CONTINUATION_BITS = np.uint64(0x8080808080808080)
_FIRST_7_BYTES = np.uint64(0x00FFFFFFFFFFFFFF)
_UPPER_HALF = np.uint64(0xFFFFFFF0000000)
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
_MAX_UINT32, _MIN_INT32 = 0xFFFFFFFF, -(1 << 31)
_BYTE, _TWO_BYTES = np.uint64(0xFF), np.uint64(0xFFFF)

# A negative varint has ten bytes: nine with a continuation bit, and a last one of 1.
_LAST, _LAST_MASK = np.uint64(0x0180), np.uint64(0xFF80)
_SIGN = np.uint64(1 << 63)

# The first four bytes of an entry: its tag and length, its name's tag and length; lengths below 128.
_HEAD = np.uint64(_ENTRY | _KEY << 16)
_HEAD_MASK = np.uint64(0x80FF80FF)

# The six bytes before its value: tag and length of the Feature, of the list (five bits of this tag
# are the kind), of the packed values. Each length is the next one plus two.
_TAIL = np.uint64(_VALUE | 4 << 8 | _LENGTH << 16 | 2 << 24 | _PACKED << 32)
_TAIL_MASK = np.uint64(0xFFFFFF07FFFF)
_EACH_LENGTH = np.uint64(1 << 8 | 1 << 24 | 1 << 40)


@njit(inline="always")
def _is_header(data: Any, at: Any) -> Any:
    return masked_crc(data, at, at + 8) == low32(data, at + 8)


@compiled
def count_records(data: NDArray[np.uint8], end: int, stop: int) -> tuple[int, int, int]:
    """Count the whole records that begin before `stop` and end by `end`.

    Returns their number, the offset of the next record, and 1 if there is no valid header there.
    """
    at = np.int64(0)
    count = 0
    while at < stop and at + HEADER <= end:
        if not _is_header(data, at):
            return count, at, 1
        length = np.int64(word_at(data, at))
        # (This order of subtraction cannot overflow.)
        if not 0 <= length <= end - at - FRAME or length > MAX_DATA:
            return count, at, 0
        at += FRAME + length
        count += 1
    return count, at, 0


@compiled
def record_starts(data: NDArray[np.uint8], end: int, starts: NDArray[np.int64]) -> int:
    """Store the offset of each record in `starts`, and return how many records end by `end`."""
    at = np.int64(0)
    for row in range(len(starts)):
        if at + HEADER > end:
            return row
        length = np.int64(word_at(data, at))
        if not 0 <= length <= end - at - FRAME:
            return row
        starts[row] = at
        at += FRAME + length
    return len(starts)


@compiled
def next_record(data: NDArray[np.uint8], end: int, left: int) -> int:
    """Return the offset of the first record header, or -1; the file has `left` more bytes."""
    for at in range(end - HEADER + 1):
        length = np.int64(word_at(data, at))
        if 0 <= length <= left - at - FRAME and _is_header(data, at):
            return at
    return -1


@njit
def _skip_field(data: Any, at: Any, end: Any, tag: Any) -> Any:
    """Return the end of a field that is not used; -1 if it is damaged."""
    if tag < np.uint64(8) or tag > np.uint64(_MAX_UINT32):  # there is no field 0
        return np.int64(-1)
    wire = np.int64(tag) & 7
    if wire == _VARINT:
        return varint(data, at, end)[1]
    size = np.int64(0)
    if wire == _LENGTH:
        length, at = varint(data, at, end)
        size = np.int64(length)
    elif wire == _FIXED64:
        size = np.int64(8)
    elif wire == _FIXED32:
        size = np.int64(4)
    else:
        return np.int64(-1)
    return at + size if at >= 0 and 0 <= size <= end - at else np.int64(-1)


@njit(inline="always")
def _field_range(data: Any, at: Any, end: Any) -> Any:
    """Return begin and end of a length-delimited field; -1 if it is damaged."""
    length, at = varint(data, at, end)
    if at < 0 or length > np.uint64(end - at):
        return np.int64(-1), np.int64(-1)
    return at, at + np.int64(length)


@njit
def _parse_feature(  # noqa: C901, PLR0911, PLR0912, PLR0915 - each kind of damage ends it
    data: Any, at: Any, end: Any, begin: Any, room: Any, values: Any
) -> tuple[int, int]:
    """Read a Feature into ``values[begin:begin + room]``; return its kind and its number of values.

    The kind is -1 if the Feature is damaged. Floats are stored as their bits, byte strings as
    ``offset << 32 | length``.
    """
    kind = np.int64(0)
    count = np.int64(0)
    while at < end:
        tag, at = varint(data, at, end)
        if at < 0:
            return -1, 0
        found = np.int64(tag) >> 3
        if found < BYTES or found > INTEGERS or (np.int64(tag) & 7) != _LENGTH:
            at = _skip_field(data, at, end, tag)
            if at < 0:
                return -1, 0
            continue
        at, stop = _field_range(data, at, end)
        # (Two lists in one Feature would have to be merged; no writer produces that.)
        if at < 0 or kind:
            return -1, 0
        kind = found
        while at < stop:
            inner, at = varint(data, at, stop)
            if at < 0:
                return -1, 0
            if kind == INTEGERS and inner == _ONE_INTEGER:
                value, at = varint(data, at, stop)
                if at < 0:
                    return -1, 0
                if count < room:
                    values[begin + count] = np.int64(value)
                count += 1
            elif kind == FLOATS and inner == _ONE_FLOAT:
                if stop - at < 4:  # noqa: PLR2004 - bytes of a float
                    return -1, 0
                if count < room:
                    values[begin + count] = np.int64(low32(data, at))
                count += 1
                at += 4
            elif inner == _PACKED:
                at, last = _field_range(data, at, stop)
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
                            values[begin + count] = np.int64(low32(data, at))
                        count += 1
                        at += 4
                else:
                    while at < last:
                        value, at = varint(data, at, last)
                        if at < 0:
                            return -1, 0
                        if count < room:
                            values[begin + count] = np.int64(value)
                        count += 1
            else:
                at = _skip_field(data, at, stop, inner)
                if at < 0:
                    return -1, 0
        at = stop
    return kind, count


@njit(inline="always")
def _is_key(data: Any, at: Any, length: Any, keys: Any, begin: Any, wanted: Any) -> Any:
    if length != wanted:
        return False
    done = np.int64(0)
    while done + 8 <= length:
        if word_at(data, at + done) != word_at(keys, begin + done):
            return False
        done += 8
    if done == length:
        return True
    spare = np.uint64(8 * (8 - (length - done)))
    return (word_at(data, at + done) ^ word_at(keys, begin + done)) << spare == np.uint64(0)


@njit(inline="always")
def _join_7_bits(word: Any) -> Any:
    """Return the number in the lower 7 bits of each byte of a word, least significant byte first."""
    # Join 7 bits of each byte to 14 of each pair, 28 of each half, 56 in all.
    word = (word & np.uint64(0x007F007F007F007F)) | (
        (word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
    )
    word = (word & np.uint64(0x00003FFF00003FFF)) | (
        (word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
    )
    return (word & np.uint64(0xFFFFFFF)) | ((word >> np.uint64(4)) & _UPPER_HALF)


@njit(inline="always")
def _short_varint(word: Any, size: Any) -> Any:
    """Return the varint that fills a word's first `size` bytes, 1 to 8; -1 if they are none."""
    spare = np.uint64(64) - np.uint64(8) * size
    word <<= spare
    if word & _CONTINUATION_BITS != (_CONTINUATION_BITS << spare) & _FIRST_7_BYTES:
        return np.int64(-1)
    return np.int64(_join_7_bits(word >> spare))


@njit(inline="always")
def _negative_varint(word: Any, rest: Any) -> Any:
    """Return the negative varint in a word and two more bytes, `rest`; 0 if they are none."""
    if word & _CONTINUATION_BITS != _CONTINUATION_BITS or rest & _LAST_MASK != _LAST:
        return np.int64(0)
    return np.int64(_join_7_bits(word) | ((rest & np.uint64(0x7F)) << np.uint64(56)) | _SIGN)


@njit
def _parse_simple_entries(  # noqa: C901, PLR0912, PLR0913, PLR0917 - see below
    data: Any,
    at: Any,
    end: Any,
    expected: Any,
    words: Any,
    sizes: Any,
    slots: Any,
    row: Any,
    values: Any,
    kinds: Any,
) -> tuple[int, int, bool]:
    """Read entries with a name of at most 8 bytes and one value, from `at` on; most are such.

    Each comparison covers eight bytes: the entry's tags and lengths, the name, the value's tags and
    lengths, which all follow from the entry's length. Offsets are unsigned, which spares a test for
    negative indices. All is one loop, not a function for each entry: an array argument, even of an
    inlined function, costs an atomic reference count.

    Returns the offset of the first entry of another form, or the end; the feature expected there;
    and whether a feature should have had more than one value. The caller parses other entries.
    """
    one, features = np.uint64(1), np.uint64(len(words))
    many = False
    while at < end:
        head = word_at(data, at)
        size = (head >> np.uint64(8)) & _BYTE
        name = (head >> np.uint64(24)) & _BYTE
        after = at + np.uint64(2) + size
        if head & _HEAD_MASK != _HEAD or after > end:
            break
        if name > _MAX_SIMPLE_NAME or name + np.uint64(8) > size:
            break
        key = word_at(data, at + np.uint64(4)) & _FIRST_BYTES[name]
        which, tried = expected, np.uint64(0)
        while tried < features and (words[which] != key or sizes[which] != name):
            which = which + one if which + one < features else np.uint64(0)
            tried += one
        if tried == features:
            break
        size -= name + np.uint64(8)
        tail = word_at(data, at + np.uint64(4) + name)
        if tail & _TAIL_MASK != _TAIL + size * _EACH_LENGTH:
            break
        kind = (tail >> np.uint64(19)) & np.uint64(0x1F)
        begin = after - size
        if kind == np.uint64(INTEGERS) and np.uint64(0) < size <= np.uint64(8):
            value = _short_varint(word_at(data, begin), size)
            if value < 0:
                break
        elif kind == np.uint64(INTEGERS) and size == np.uint64(10):
            value = _negative_varint(
                word_at(data, begin), word_at(data, begin + np.uint64(8)) & _TWO_BYTES
            )
            if value == 0:
                break
        elif kind == np.uint64(BYTES):
            value = np.int64((begin << np.uint64(32)) | size)
        elif kind == np.uint64(FLOATS) and size == np.uint64(4):
            value = np.int64(word_at(data, begin) & np.uint64(_MAX_UINT32))
        else:
            break
        slot = np.uint64(slots[which])
        if np.uint64(slots[which + one]) == slot:
            break  # no room for a value
        kinds[row, which] = kind
        values[row, slot] = value
        many |= np.uint64(slots[which + one]) - slot != one
        expected = which + one if which + one < features else np.uint64(0)
        at = after
    return np.int64(at), np.int64(expected), many


@njit
def _check_crcs(data: Any, record: Any, first: Any, last: Any, status: Any) -> None:
    """Set the status of rows `first` to `last` to `GOOD` or `BAD_CRC`; row `first` begins at `record`.

    Three records are checked together: the processor's instruction has a latency of three cycles,
    and can start once a cycle.
    """
    if last - first < _AT_ONCE:
        for row in range(first, last):
            begin = record + HEADER
            record = begin + np.int64(word_at(data, record)) + 4
            right = masked_crc(data, begin, record - 4) == low32(data, record - 4)
            status[row] = GOOD if right else BAD_CRC
        return
    one = record + HEADER
    one_end = one + np.int64(word_at(data, record))
    two = one_end + FRAME
    two_end = two + np.int64(word_at(data, one_end + 4))
    three = two_end + FRAME
    three_end = three + np.int64(word_at(data, two_end + 4))
    common = min(one_end - one, two_end - two, three_end - three) & ~(_WORD - 1)
    a, b, c = INITIAL, INITIAL, INITIAL
    for at in range(0, common, _WORD):
        a = add_word(a, word_at(data, one + at))
        b = add_word(b, word_at(data, two + at))
        c = add_word(c, word_at(data, three + at))
    right = finish_crc(data, a, one + common, one_end) == low32(data, one_end)
    status[first] = GOOD if right else BAD_CRC
    right = finish_crc(data, b, two + common, two_end) == low32(data, two_end)
    status[first + 1] = GOOD if right else BAD_CRC
    right = finish_crc(data, c, three + common, three_end) == low32(data, three_end)
    status[first + 2] = GOOD if right else BAD_CRC


@compiled
def parse_examples(  # noqa: C901, PLR0912, PLR0915 - one count_records over nested messages
    data: NDArray[np.uint8],
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
        data: Whole records, and 16 more bytes. Nothing beyond is read, even if the records are
            damaged: rows that are not whole become `BAD_LENGTH`.
        keys: The names of the features one after the other, and 8 more bytes.
        key_begins: The index of each name's first byte, and the end of the last name.
        slots: The index of each feature's first value in a row of `values`, and the end.
        values: Receives the values, see `_parse_feature`.
        kinds: Receives the kind of each row's features, 0 if absent or empty.
        starts: Receives the offset of each record.
        status: `GOOD`, `BAD_CRC`, `BAD_EXAMPLE`, `BAD_COUNT`, `BAD_LENGTH` or `SEQUENCE`.
    """
    features = len(slots) - 1
    lengths = key_begins[1:] - key_begins[:-1]
    sizes = lengths.astype(np.uint64)
    words = np.zeros(features, np.uint64)
    for which in range(features):
        if lengths[which] <= _WORD:
            words[which] = word_at(keys, key_begins[which]) & _FIRST_BYTES[lengths[which]]
    expected = np.int64(0)
    whole = record_starts(data, len(data) - FRAME, starts)
    for row in range(whole, len(status)):
        status[row] = BAD_LENGTH
        kinds[row] = 0
        starts[row] = starts[row - 1] if row else 0
    for row in range(whole):
        record = starts[row]
        if row % _AT_ONCE == 0:
            _check_crcs(data, record, row, min(row + _AT_ONCE, whole), status)
        kinds[row] = 0
        at = record + HEADER
        stop = at + np.int64(word_at(data, record))
        if status[row] == BAD_CRC:
            continue
        status[row] = BAD_EXAMPLE
        good = True
        count_wrong = sequence = False
        while good and at < stop:
            tag, at = varint(data, at, stop)
            if at < 0 or tag != _ENTRY:
                sequence |= at >= 0 and tag == _FEATURE_LISTS
                at = _skip_field(data, at, stop, tag) if at >= 0 else at
                good = at >= 0
                continue
            at, features_end = _field_range(data, at, stop)
            if at < 0:
                good = False
                break
            while good and at < features_end:
                at, expected, many = _parse_simple_entries(
                    data,
                    np.uint64(at),
                    np.uint64(features_end),
                    np.uint64(expected),
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
                tag, at = varint(data, at, features_end)
                if at < 0 or tag != _ENTRY:
                    at = _skip_field(data, at, features_end, tag) if at >= 0 else at
                    good = at >= 0
                    continue
                at, entry_end = _field_range(data, at, features_end)
                key, key_end = np.int64(0), np.int64(0)
                value, value_end = np.int64(0), np.int64(0)
                good = at >= 0
                while good and at < entry_end:
                    tag, at = varint(data, at, entry_end)
                    if at < 0:
                        good = False
                    elif tag == _KEY:
                        key, key_end = _field_range(data, at, entry_end)
                        at = key_end
                    elif tag == _VALUE and value == 0:
                        value, value_end = _field_range(data, at, entry_end)
                        at = value_end
                    elif tag == _VALUE:
                        at = np.int64(-1)  # two would have to be merged; no writer produces that
                    else:
                        at = _skip_field(data, at, entry_end, tag)
                    good = at >= 0
                if not good:
                    break
                # Records mostly have their features in the same order.
                which = np.int64(-1)
                for step in range(features):
                    candidate = expected + step
                    if candidate >= features:
                        candidate -= features
                    begin = key_begins[candidate]
                    size = key_begins[candidate + 1] - begin
                    if _is_key(data, key, key_end - key, keys, begin, size):
                        which = candidate
                        break
                if which < 0:
                    continue
                expected = which + 1 if which + 1 < features else 0
                first = slots[which]
                room = slots[which + 1] - first
                kind, count = _parse_feature(data, value, value_end, first, room, values[row])
                if kind < 0:
                    good = False
                else:
                    # (If a name is repeated, the last one counts, even if empty.)
                    kinds[row, which] = kind if count else 0
                    count_wrong |= count not in (0, room)
        if good:
            status[row] = SEQUENCE if sequence else BAD_COUNT if count_wrong else GOOD
