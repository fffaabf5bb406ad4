"""Columns in aligned memory, which TensorFlow uses without a copy."""

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
"""Bytes: TensorFlow uses memory without a copy only if its address is a multiple of this."""

_NUMBERS: Final = frozenset("iuf")


def rows_in(columns: Columns) -> int:
    """Return the number of rows.

    Examples:
        >>> rows_in({"label": np.zeros((3, 1))})
        3
    """
    return len(next(iter(columns.values())))


def empty_columns(spec: Mapping[str, Field]) -> Columns:
    """Return columns without rows."""
    return {name: np.empty((0, *field.shape), field.dtype) for name, field in spec.items()}


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialized array in aligned memory; arrays of objects are not aligned."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    return aligned_bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def aligned_bytes(size: int, offset: int = 0) -> NDArray[np.uint8]:
    """Return `size` uninitialized bytes, aligned at index `offset`."""
    memory = BUFFER_POOL.acquire(size + ALIGNMENT)
    begin = -(memory.ctypes.data + offset) % ALIGNMENT
    return memory[begin : begin + size]


def is_aligned(column: NDArray[Any]) -> bool:
    """Return whether TensorFlow can use `column` without a copy."""
    contiguous = column.flags.c_contiguous and not column.dtype.hasobject
    return bool(contiguous and _address(column) % ALIGNMENT == 0)


def _address(column: Any) -> int:
    """Return the address of a contiguous column."""
    if column.dtype.kind in _NUMBERS and column.nbytes and column.flags.writeable:
        # (Five times as fast as NumPy's way, which matters for hundreds of columns.)
        return ctypes.addressof(ctypes.c_char.from_buffer(column))
    return int(column.ctypes.data)


def adjacent_runs(arrays: Sequence[NDArray[Any]]) -> list[list[int]]:
    """Return the indices of arrays that are adjacent in memory, as one list for each run.

    A run has arrays of one numeric type and shape, each aligned for TensorFlow.

    Examples:
        >>> block = aligned((3, 8), np.dtype("int64"))
        >>> adjacent_runs([block[2], block[0], block[1], block[0, ::2]])
        [[1, 2, 0]]
    """
    by_address = sorted(
        (_address(array), index)
        for index, array in enumerate(arrays)
        if array.dtype.kind in _NUMBERS
        and array.nbytes
        and array.nbytes % ALIGNMENT == 0
        and array.flags.c_contiguous
    )
    runs: list[list[int]] = []
    end = -1
    for address, index in by_address:
        array = arrays[index]
        if address % ALIGNMENT:
            continue
        before = arrays[runs[-1][-1]] if address == end else None
        if before is not None and (array.dtype, array.shape) == (before.dtype, before.shape):
            runs[-1].append(index)
        else:
            runs.append([index])
        end = address + array.nbytes
    return runs
