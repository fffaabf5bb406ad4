"""CRC-32C (Castagnoli), the checksum of TFRecord files, in compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.extending import intrinsic

from eai_notebook.compiled.swar import word_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IN_HARDWARE: Final = bool(get_host_cpu_features().get("sse4.2"))
"""Whether the processor has a CRC-32C instruction."""

INITIAL: Final = np.uint64(0xFFFFFFFF)
"""The state before the first byte."""

_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = np.uint32(0xA282EAD8)


def _tables() -> NDArray[np.uint32]:
    """Return the contribution of each byte value by its position in a word, ``[8, 256]``."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, (first >> 1) ^ np.uint32(_POLYNOMIAL), first >> 1).astype(
            np.uint32
        )
    tables = [first]
    for _ in range(7):
        tables.append((tables[-1] >> np.uint32(8)) ^ first[tables[-1] & 0xFF])
    return np.stack(tables[::-1])


_TABLES = _tables()


@intrinsic
def _instruction(
    _context: Any, _crc: Any, _word: Any
) -> tuple[Any, Callable[[Any, Any, Any, Any], Any]]:
    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        function = builder.module.declare_intrinsic(
            "llvm.x86.sse42.crc32.64.64", (), ir.FunctionType(word, [word, word])
        )
        return builder.call(function, arguments)

    return types.uint64(types.uint64, types.uint64), build


@njit(inline="always")
def add_word_by_table(crc: Any, word: Any) -> Any:
    """Return the state after one more word, without the instruction; see `add_word`."""
    word ^= crc
    state = np.uint64(0)
    for position in range(8):
        byte = (word >> np.uint64(8 * position)) & np.uint64(0xFF)
        state ^= np.uint64(_TABLES[position, byte])
    return state


add_word = _instruction if IN_HARDWARE else add_word_by_table


@njit(inline="always")
def masked_crc(data: Any, begin: Any, end: Any) -> Any:
    """Return the masked checksum of ``data[begin:end]`` as TFRecord files store it; uint32."""
    return finish_crc(data, INITIAL, begin, end)


@njit(inline="always")
def finish_crc(data: Any, crc: Any, at: Any, end: Any) -> Any:
    """Return the masked checksum of ``data[:end]``, given the state `crc` after ``data[:at]``."""
    while at + 8 <= end:
        crc = add_word(crc, word_at(data, at))
        at += 8
    while at < end:
        low = (crc ^ np.uint64(data[at])) & np.uint64(0xFF)
        crc = np.uint64(_TABLES[7, low]) ^ (crc >> np.uint64(8))
        at += 1
    plain = np.uint32(crc) ^ np.uint32(0xFFFFFFFF)
    return np.uint32(np.uint32((plain >> np.uint32(15)) | (plain << np.uint32(17))) + _MASK_DELTA)
