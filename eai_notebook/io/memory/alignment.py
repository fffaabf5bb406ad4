"""Columns in aligned memory that TensorFlow takes over without a copy."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.io.memory.buffer_pool import BUFFER_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.part import Columns, Field

ALIGNMENT: Final = 64
"""Bytes: TensorFlow takes memory over without a copy only where it begins at a multiple."""

_NUMBERS: Final = frozenset("iuf")


def rows_in(columns: Columns) -> int:
    """Return how many rows there are.

    Examples:
        >>> rows_in({"label": np.zeros((3, 1))})
        3
    """
    return len(next(iter(columns.values())))


def nothing(spec: Mapping[str, Field]) -> Columns:
    """Return columns without a row."""
    return {name: np.empty((0, *field.shape), field.dtype) for name, field in spec.items()}


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return memory that begins where TensorFlow wants it; objects, such as text, anywhere."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    return aligned_bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def aligned_bytes(size: int, offset: int = 0) -> NDArray[np.uint8]:
    """Return `size` bytes, of which those from `offset` on begin where TensorFlow wants them."""
    memory = BUFFER_POOL.acquire(size + ALIGNMENT)
    begin = -(memory.ctypes.data + offset) % ALIGNMENT
    return memory[begin : begin + size]


def is_aligned(column: NDArray[Any]) -> bool:
    """Return whether TensorFlow can take `column` over as it is."""
    whole = column.flags.c_contiguous and not column.dtype.hasobject
    return bool(whole and _address(column) % ALIGNMENT == 0)


def _address(column: Any) -> int:
    """Return where a column without gaps begins."""
    if column.dtype.kind in _NUMBERS and column.nbytes and column.flags.writeable:
        # (A fifth of the time that NumPy takes to tell it, which of hundreds of columns counts.)
        return ctypes.addressof(ctypes.c_char.from_buffer(column))
    return int(column.ctypes.data)


def side_by_side(arrays: Sequence[NDArray[Any]]) -> list[list[int]]:
    """Return the places of arrays alike of which each ends where the next begins, in runs.

    Only of numbers, and only where TensorFlow can take over each of them as it is.

    Examples:
        >>> block = aligned((3, 8), np.dtype("int64"))
        >>> side_by_side([block[2], block[0], block[1], block[0, ::2]])
        [[1, 2, 0]]
    """
    lying = sorted(
        (_address(array), place)
        for place, array in enumerate(arrays)
        if array.dtype.kind in _NUMBERS
        and array.nbytes
        and array.nbytes % ALIGNMENT == 0
        and array.flags.c_contiguous
    )
    runs: list[list[int]] = []
    ends = -1
    for address, place in lying:
        array = arrays[place]
        if address % ALIGNMENT:
            continue
        before = arrays[runs[-1][-1]] if address == ends else None
        if before is not None and (array.dtype, array.shape) == (before.dtype, before.shape):
            runs[-1].append(place)
        else:
            runs.append([place])
        ends = address + array.nbytes
    return runs
