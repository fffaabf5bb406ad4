"""SWAR (SIMD within a register): eight bytes at a time, for compiled parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

_Built = tuple[Any, "Callable[[Any, Any, Any, Any], Any]"]

PADDING: Final = 16
"""Bytes that a buffer must have after its last row: parsers read ahead that far."""

_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = np.uint64(0x8080808080808080)
_UPPER_NIBBLES: Final = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIXES: Final = np.uint64(0x0606060606060606)
_ZEROS: Final = np.uint64(0x3030303030303030)


@intrinsic
def word_at(_context: Any, array: Any, index: Any) -> _Built:
    """Return the 8 bytes of a uint8 array from `index` on, the first one lowest."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(place)
        word.align = 1
        return word

    return types.uint64(array, index), build


@njit(inline="always")
def low32(array: Any, index: Any) -> Any:
    """Return the 4 bytes of a uint8 array from `index` on, the first one lowest."""
    return (
        np.uint32(array[index])
        | (np.uint32(array[index + 1]) << np.uint32(8))
        | (np.uint32(array[index + 2]) << np.uint32(16))
        | (np.uint32(array[index + 3]) << np.uint32(24))
    )


@intrinsic
def trailing_zeros(_context: Any, _word: Any) -> _Built:
    """Return how many bits below the lowest set one are clear; 64 where none is set."""

    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


@intrinsic
def copy_bytes(_context: Any, _to: Any, _from: Any, _count: Any) -> _Built:
    """Copy bytes from one address to another."""

    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        target, origin, size = arguments
        cgutils.raw_memcpy(
            builder,
            builder.inttoptr(target, pointer),
            builder.inttoptr(origin, pointer),
            size,
            1,
        )
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(types.int64, types.int64, types.int64), build


@intrinsic
def _pointer(_context: Any, _address: Any) -> _Built:
    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), build


@njit(inline="always")
def bytes_at(address: Any, count: Any) -> Any:
    """Return bytes that lie at an address as an array; the caller keeps them alive."""
    return carray(_pointer(address), (count,), np.uint8)


@njit(inline="always")
def bytes_before(word: Any, wanted: Any) -> Any:
    """Return how many of a word's bytes come before the first equal to `wanted`'s; else 8.

    `wanted` holds the byte looked for eight times.
    """
    different = word ^ wanted
    return np.int64(trailing_zeros((different - _ONES) & ~different & _HIGH) >> np.uint64(3))


@njit(inline="always")
def decimal(word: Any, digits: Any) -> Any:
    """Return the number in a word's first 1 to 8 bytes, or -1 if one is no decimal digit."""
    # Shifted to the top, with zeros in front of them, where a shorter number has none.
    each = (word ^ _ZEROS) << np.uint64(64 - 8 * digits)
    if (each | (each + _SIXES)) & _UPPER_NIBBLES:
        return np.int64(-1)
    each = (each * np.uint64(10) + (each >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    each = (each * np.uint64(100) + (each >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return np.int64((each * np.uint64(10_000) + (each >> np.uint64(32))) & np.uint64(0xFFFFFFFF))


@njit(inline="always")
def hexadecimal(word: Any) -> Any:
    """Return the number in a word's 8 bytes, or -1 if one is no hexadecimal digit."""
    letters = (word >> np.uint64(6)) & _ONES
    nibbles = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) + letters * np.uint64(9)
    # Written again, in lower case, it must come out as it was.
    again = nibbles + _ZEROS + ((nibbles + _SIXES) >> np.uint64(4) & _ONES) * np.uint64(0x27)
    if again != (word | (letters << np.uint64(5))) or nibbles & _UPPER_NIBBLES:
        return np.int64(-1)
    pairs = ((nibbles << np.uint64(4)) | (nibbles >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    return np.int64(
        ((pairs & np.uint64(0xFF)) << np.uint64(24))
        | (pairs & np.uint64(0xFF0000))
        | ((pairs >> np.uint64(24)) & np.uint64(0xFF00))
        | (pairs >> np.uint64(48))
    )
