"""Rows as columns, and memory for them that TensorFlow takes over without a copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.io.flow.lent import LENDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eai_notebook.io.formats.part import Columns, Field

_ALIGNMENT: Final = 64  # TensorFlow takes memory over without a copy only from here on


def rows_in(columns: Columns) -> int:
    """Return how many rows there are.

    Example:
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
    memory = LENDER.lend(size + _ALIGNMENT)
    begin = -(memory.ctypes.data + offset) % _ALIGNMENT
    return memory[begin : begin + size]


def is_aligned(column: NDArray[Any]) -> bool:
    """Return whether TensorFlow can take `column` over as it is."""
    whole = column.flags.c_contiguous and not column.dtype.hasobject
    return bool(whole and column.ctypes.data % _ALIGNMENT == 0)
