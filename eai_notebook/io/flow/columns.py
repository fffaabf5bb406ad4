"""Rows as columns: put together, picked out, without a Python step for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Return all rows of `parts` as one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(columns: Columns, order: NDArray[np.int64]) -> Columns:
    """Return the rows at `order`, in fresh memory that TensorFlow may keep."""
    return {name: _picked(column, order) for name, column in columns.items()}


def _picked(column: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    chosen = aligned((len(order), *column.shape[1:]), column.dtype)
    # "clip" writes where it is told; the default fills a copy first. It releases the interpreter.
    np.take(column, order, axis=0, out=chosen, mode="clip")
    return chosen


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return memory that begins where TensorFlow wants it; objects, such as text, anywhere."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size].view(dtype).reshape(shape)
