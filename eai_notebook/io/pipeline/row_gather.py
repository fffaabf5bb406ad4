"""`RowView`: gathers rows from several pieces as if they were one array.

Rows are copied once: from the memory in which they were parsed into the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import copy_bytes
from eai_notebook.io.memory.alignment import aligned, is_aligned, rows_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.part import Columns

_FOUR: Final = 4
_EIGHT: Final = 8


class RowView:
    """The rows of several pieces, numbered continuously.

    Attributes:
        rows: The number of rows.

    Examples:
        >>> view = RowView([{"x": np.array([1, 2])}, {"x": np.array([3])}])
        >>> view.rows, view.gather(np.array([2, 0]))["x"].tolist(), view.slice(1, 3)["x"].tolist()
        (3, [3, 1], [2, 3])
    """

    def __init__(self, pieces: Sequence[Columns]) -> None:
        self._pieces = [piece for piece in pieces if rows_in(piece)] or list(pieces[:1])
        self._sizes = [rows_in(piece) for piece in self._pieces]
        self._begins = np.concatenate([[0], np.cumsum(self._sizes)]).tolist()
        self.rows: int = self._begins[-1]
        spans = zip(self._begins, self._begins[1:], strict=False)
        self._whole = dict(zip(spans, self._pieces, strict=True))
        self._of_row: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
        self._sources: dict[str, tuple[list[NDArray[Any]], NDArray[np.int64]]] = {}

    def slice(self, begin: int, end: int) -> Columns:
        """Return the rows from `begin` to `end`; without a copy if they are aligned in one piece."""
        if (begin, end) in self._whole:
            # (A whole piece: to check the alignment of hundreds of columns would take long.)
            return dict(self._whole[begin, end])
        spans = [
            (piece, max(begin - first, 0), min(end - first, size))
            for piece, first, size in zip(self._pieces, self._begins, self._sizes, strict=False)
            if begin < first + size and first < end
        ]
        return {
            name: _concatenated([piece[name][low:high] for piece, low, high in spans], column)
            for name, column in self._pieces[0].items()
        }

    def rest(self, begin: int) -> list[Columns]:
        """Return the rows from `begin` on as pieces, at least one, without a copy.

        Examples:
            >>> view = RowView([{"x": np.array([1, 2])}, {"x": np.array([3])}])
            >>> [piece["x"].tolist() for piece in view.rest(1)], view.rest(3)[0]["x"].tolist()
            ([[2], [3]], [])
        """
        left = [
            {name: column[max(begin - first, 0) :] for name, column in piece.items()}
            for piece, first, size in zip(self._pieces, self._begins, self._sizes, strict=False)
            if begin < first + size
        ]
        return left or [{name: column[:0] for name, column in self._pieces[0].items()}]

    def gather(self, order: NDArray[np.int64]) -> Columns:
        """Return a copy of the rows at `order`, in aligned memory."""
        if not len(order):
            return {name: column[:0] for name, column in self._pieces[0].items()}
        return {
            name: self._gather_column(name, column, order)
            for name, column in self._pieces[0].items()
        }

    def _gather_column(
        self, name: str, like: NDArray[Any], order: NDArray[np.int64]
    ) -> NDArray[Any]:
        if like.dtype.hasobject:
            objects: NDArray[Any] = np.concatenate([piece[name] for piece in self._pieces])[order]
            return objects
        gathered = aligned((len(order), *like.shape[1:]), like.dtype)
        if not gathered.nbytes:  # rows of 0 bytes
            return gathered
        if name not in self._sources:
            arrays = [_contiguous_rows(piece[name]) for piece in self._pieces]
            begins = [(one.ctypes.data, one.strides[0]) for one in arrays]
            self._sources[name] = arrays, np.array(begins, np.int64)
        if self._of_row is None:
            pieces = np.arange(len(self._sizes), dtype=np.int32)
            indices = [np.arange(size, dtype=np.int32) for size in self._sizes]
            self._of_row = np.repeat(pieces, self._sizes), np.concatenate(indices)
        _, sources = self._sources[name]
        width = gathered.nbytes // len(order)
        _gather_rows(sources, *self._of_row, order, width, gathered.ctypes.data)
        return gathered


def _concatenated(spans: Sequence[NDArray[Any]], like: NDArray[Any]) -> NDArray[Any]:
    if len(spans) == 1 and is_aligned(spans[0]):
        return spans[0]
    rows = sum(len(span) for span in spans)
    joined = aligned((rows, *like.shape[1:]), like.dtype)
    if spans:
        np.concatenate(spans, out=joined)
    return joined


def _contiguous_rows(column: NDArray[Any]) -> NDArray[Any]:
    """Return `column`, copied only if the bytes of a row are not contiguous."""
    return column if column[0].flags.c_contiguous else np.ascontiguousarray(column)


@compiled
def _gather_rows(
    sources: NDArray[np.int64],
    pieces: NDArray[np.int32],
    indices: NDArray[np.int32],
    order: NDArray[np.int64],
    width: int,
    target: int,
) -> None:
    """Copy rows of `width` bytes to the address `target`; constant widths compile to one move."""
    for i in range(len(order)):
        row = order[i]
        piece = pieces[row]
        source = sources[piece, 0] + np.int64(indices[row]) * sources[piece, 1]
        address = target + i * width
        if width == _FOUR:
            copy_bytes(address, source, 4)
        elif width == _EIGHT:
            copy_bytes(address, source, 8)
        else:
            copy_bytes(address, source, width)
