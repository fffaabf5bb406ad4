"""Decode a row group's numeric columns side by side into one block.

Arrow's reader builds each column by itself, one value after the other with the level that tells it
from a null. Here places in dictionaries are unpacked eight at a time into the memory that
TensorFlow takes over, and the levels become Arrow's bits. What is stored in another way is left to
Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from eai_notebook.formats.parquet.page_headers import (
    FIELDS,
    PACKED,
    PLACE,
    SIZE,
    VALUES,
    find_pages,
)
from eai_notebook.formats.parquet.page_values import decode
from eai_notebook.formats.parquet.snappy import unpack
from eai_notebook.io.memory.alignment import ALIGNMENT, aligned
from eai_notebook.io.memory.buffer_pool import BUFFER_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow.parquet as pq
    from numpy.typing import NDArray

_BYTES: Final = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_AS_THEY_ARE: Final = "UNCOMPRESSED"
_CODECS: Final = frozenset({_AS_THEY_ARE, "SNAPPY", "ZSTD", "GZIP", "BROTLI"})
_ENCODINGS: Final = frozenset({"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"})
_FEW: Final = 4  # pages of a column, unless there prove to be more


_Place = tuple[str, tuple[int, int, int, int], int]
"""A column's name, what `parquet_pages` wants to know of it, and its size."""


@dataclass(frozen=True)
class SameTypeColumns:
    """Columns of one type, packed in one way.

    Attributes:
        places: What `parquet_pages` wants to know of each, in the order of `names`.
        size: Bytes that all take when they are unpacked.
    """

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    codec: str
    places: NDArray[np.int64]
    size: int


def same_type_columns(
    group: pq.RowGroupMetaData,
    schema: pq.ParquetSchema,
    wanted: Mapping[str, np.dtype[Any]],
    begins: Mapping[str, int | None],
) -> list[SameTypeColumns]:
    """Return the columns among those `wanted` that can be decoded here, those alike together.

    Args:
        group: The row group.
        schema: What the columns of the file are.
        wanted: The types that they are wanted in, by name.
        begins: Where their bytes begin in what is fetched.
    """
    found: dict[tuple[np.dtype[Any], str], list[_Place]] = {}
    for place in range(group.num_columns):
        column, kind = group.column(place), schema.column(place)
        name = column.path_in_schema
        begin = begins.get(name)
        if name in wanted and begin is not None and _is_plain(column, kind, wanted[name]):
            end = begin + column.total_compressed_size
            told = begin, end, column.num_values, kind.max_definition_level
            size = column.total_uncompressed_size
            found.setdefault((wanted[name], column.compression), []).append((name, told, size))
    return [
        SameTypeColumns(tuple(names), dtype, codec, np.array(places, np.int64), sum(sizes))
        for (dtype, codec), columns in found.items()
        for names, places, sizes in [zip(*columns, strict=True)]
    ]


def _is_plain(column: pq.ColumnChunkMetaData, kind: pq.ColumnSchema, dtype: np.dtype[Any]) -> bool:
    return (
        not kind.max_repetition_level
        and kind.max_definition_level <= 1
        and _BYTES.get(column.physical_type) == dtype.itemsize
        and column.compression in _CODECS
        and _ENCODINGS.issuperset(column.encodings)
    )


class NumericColumns(NamedTuple):
    """A column's values, how many are nulls, and bits that tell which are none, if some are."""

    values: NDArray[Any]
    nulls: int
    there: NDArray[np.uint8]

    def as_arrow(self, kind: pa.DataType) -> pa.Array:
        """Return them as an array of Arrow's that holds their memory."""
        bits = pa.py_buffer(self.there) if self.nulls else None
        buffers = [bits, pa.py_buffer(self.values)]
        return pa.Array.from_buffers(kind, len(self.values), buffers, self.nulls)


def decoded(
    memory: NDArray[np.uint8], columns: SameTypeColumns, rows: int
) -> dict[str, NumericColumns]:
    """Return columns by name, each a row of one block; none if something is not as it was told."""
    places = columns.places
    if (places[:, VALUES] != rows).any():
        return {}
    pages = np.empty((_FEW * len(places), FIELDS), np.int64)
    count = find_pages(memory, places, pages)
    if count > len(pages):
        pages = np.empty((count, FIELDS), np.int64)
        count = find_pages(memory, places, pages)
    if count <= 0:
        return {}
    pages = pages[:count]
    try:
        plain, begins = _unpacked(memory, pages, columns)
    except (pa.ArrowException, OSError):
        return {}
    step = ALIGNMENT // columns.dtype.itemsize
    block = aligned((len(places), -(-rows // step) * step), columns.dtype)
    there = np.zeros((len(places), rows // 8 + 2), np.uint8)
    nulls = np.zeros(len(places), np.int64)
    bits = block.view(f"u{columns.dtype.itemsize}")
    if not decode(pages, plain.ctypes.data + begins, places, rows, bits, there, nulls):
        return {}
    found = zip(block[:, :rows], nulls.tolist(), there, strict=True)
    return dict(zip(columns.names, map(NumericColumns._make, found), strict=True))


def _unpacked(
    memory: NDArray[np.uint8], pages: NDArray[np.int64], columns: SameTypeColumns
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return memory in which pages lie unpacked, and where each begins.

    Raises:
        pyarrow.ArrowException: They cannot be unpacked.
    """
    begins, codec = pages[:, PLACE], columns.codec
    if codec == _AS_THEY_ARE:
        if (pages[:, PACKED] != pages[:, SIZE]).any():
            raise pa.ArrowInvalid(codec)
        return memory, begins
    ends = np.cumsum(pages[:, SIZE])
    if ends[-1] > columns.size:
        raise pa.ArrowInvalid(codec)
    plain = BUFFER_POOL.acquire(int(ends[-1]))
    places = np.stack([begins, begins + pages[:, PACKED], ends - pages[:, SIZE], ends], axis=1)
    if codec == "SNAPPY":
        if not unpack(memory, places, plain):
            raise pa.ArrowInvalid(codec)
    else:
        packed, known = pa.py_buffer(memory), pa.Codec(codec.lower())
        for begin, end, low, high in places.tolist():
            text = known.decompress(packed.slice(begin, end - begin), high - low)
            plain[low:high] = np.frombuffer(text, np.uint8)
    return plain, places[:, 2]
