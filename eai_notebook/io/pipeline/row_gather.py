"""Gather rows from several pieces as if they were one array.

Rows are copied once, from where they were parsed into the batch that TensorFlow keeps.
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
    """Some pieces' rows, numbered on from piece to piece.

    Attributes:
        rows: How many there are.

    Examples:
        >>> pile = RowView([{"x": np.array([1, 2])}, {"x": np.array([3])}])
        >>> pile.rows, pile.take(np.array([2, 0]))["x"].tolist(), pile.slice(1, 3)["x"].tolist()
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
        """Return the rows from `begin` to `end`; where they lie well, without a copy."""
        if (begin, end) in self._whole:
            # (As it lies: of hundreds of columns it would cost to look at each.)
            return dict(self._whole[begin, end])
        spans = [
            (piece, max(begin - first, 0), min(end - first, size))
            for piece, first, size in zip(self._pieces, self._begins, self._sizes, strict=False)
            if begin < first + size and first < end
        ]
        return {
            name: _joined([piece[name][low:high] for piece, low, high in spans], column)
            for name, column in self._pieces[0].items()
        }

    def rest(self, begin: int) -> list[Columns]:
        """Return the rows from `begin` on where they lie, in at least one piece.

        Examples:
            >>> pile = RowView([{"x": np.array([1, 2])}, {"x": np.array([3])}])
            >>> [piece["x"].tolist() for piece in pile.rest(1)], pile.rest(3)[0]["x"].tolist()
            ([[2], [3]], [])
        """
        left = [
            {name: column[max(begin - first, 0) :] for name, column in piece.items()}
            for piece, first, size in zip(self._pieces, self._begins, self._sizes, strict=False)
            if begin < first + size
        ]
        return left or [{name: column[:0] for name, column in self._pieces[0].items()}]

    def take(self, order: NDArray[np.int64]) -> Columns:
        """Return the rows at `order`, in fresh memory that TensorFlow may keep."""
        if not len(order):
            return {name: column[:0] for name, column in self._pieces[0].items()}
        return {name: self._taken(name, column, order) for name, column in self._pieces[0].items()}

    def _taken(self, name: str, like: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
        if like.dtype.hasobject:
            whole: NDArray[Any] = np.concatenate([piece[name] for piece in self._pieces])[order]
            return whole
        chosen = aligned((len(order), *like.shape[1:]), like.dtype)
        if not chosen.nbytes:  # rows of nothing
            return chosen
        if name not in self._sources:
            arrays = [_rows_whole(piece[name]) for piece in self._pieces]
            begins = [(one.ctypes.data, one.strides[0]) for one in arrays]
            self._sources[name] = arrays, np.array(begins, np.int64)
        if self._of_row is None:
            numbers = np.arange(len(self._sizes), dtype=np.int32)
            places = [np.arange(size, dtype=np.int32) for size in self._sizes]
            self._of_row = np.repeat(numbers, self._sizes), np.concatenate(places)
        _, sources = self._sources[name]
        width = chosen.nbytes // len(order)
        _gather(sources, *self._of_row, order, width, chosen.ctypes.data)
        return chosen


def _joined(spans: Sequence[NDArray[Any]], like: NDArray[Any]) -> NDArray[Any]:
    if len(spans) == 1 and is_aligned(spans[0]):
        return spans[0]
    rows = sum(len(span) for span in spans)
    chosen = aligned((rows, *like.shape[1:]), like.dtype)
    if spans:
        np.concatenate(spans, out=chosen)
    return chosen


def _rows_whole(column: NDArray[Any]) -> NDArray[Any]:
    """Return `column`, copied only if the bytes of a row do not lie together."""
    return column if column[0].flags.c_contiguous else np.ascontiguousarray(column)


@compiled
def _gather(
    sources: NDArray[np.int64],
    pieces: NDArray[np.int32],
    places: NDArray[np.int32],
    order: NDArray[np.int64],
    width: int,
    to: int,
) -> None:
    """Copy rows of `width` bytes; a width known when compiling makes it a single move."""
    for row in range(len(order)):
        which = order[row]
        piece = pieces[which]
        origin = sources[piece, 0] + np.int64(places[which]) * sources[piece, 1]
        target = to + row * width
        if width == _FOUR:
            copy_bytes(target, origin, 4)
        elif width == _EIGHT:
            copy_bytes(target, origin, 8)
        else:
            copy_bytes(target, origin, width)
