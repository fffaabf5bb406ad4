"""Decode a row group's numeric columns side by side into one block.

Arrow's reader builds each column by itself, one value after the other with the level that tells it
from a null. Here places in dictionaries are unpacked eight at a time into the memory that
TensorFlow takes over, and the levels become Arrow's bits. What is stored in another way is left to
Arrow.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from eai_notebook.formats.parquet.page_headers import (
    COUNT,
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

    from eai_notebook.formats.parquet_footer import Chunk, Chunks

_BYTES: Final = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_AS_THEY_ARE: Final = "UNCOMPRESSED"
_CODECS: Final = frozenset({_AS_THEY_ARE, "SNAPPY", "ZSTD", "GZIP", "BROTLI"})
_ENCODINGS: Final = frozenset({"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"})
_FEW: Final = 4  # pages of a column, unless there prove to be more
_LEVELS_MOST: Final = (
    8  # bytes for a value's levels and place in a dictionary, as wasteful as can be
)
_PAGE_MOST: Final = 1024  # bytes of a page beside its values
_GZIP: Final = 47  # zlib's word for a window of 32 KiB and either of its headers
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


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
    group: pq.RowGroupMetaData | Chunks,
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
        name: Any = column.path_in_schema  # (None, where it is part of another one)
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


def _is_plain(
    column: pq.ColumnChunkMetaData | Chunk, kind: pq.ColumnSchema, dtype: np.dtype[Any]
) -> bool:
    return (
        not kind.max_repetition_level
        and kind.max_definition_level <= 1
        and column.physical_type == kind.physical_type
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
    # What the file says of its sizes counts only as far as so many values can need it.
    needed = pages[:, COUNT] * (columns.dtype.itemsize + _LEVELS_MOST) + _PAGE_MOST
    if ends[-1] > columns.size or (pages[:, SIZE] > needed).any():
        raise pa.ArrowInvalid(codec)
    plain = BUFFER_POOL.acquire(int(ends[-1]))
    places = np.stack([begins, begins + pages[:, PACKED], ends - pages[:, SIZE], ends], axis=1)
    if codec == "SNAPPY":
        if not unpack(memory, places, plain):
            raise pa.ArrowInvalid(codec)
    else:
        for begin, end, low, high in places.tolist():
            plain[low:high] = unpacked_page(memory[begin:end], codec, high - low)
    return plain, places[:, 2]


def unpacked_page(packed: NDArray[np.uint8], codec: str, size: int) -> NDArray[np.uint8]:
    """Return what a page holds, which must be as much as its header says.

    Arrow's codecs alone do not tell whether there was less: the rest is what lay in memory.

    Raises:
        pyarrow.ArrowException: It is not, or cannot be unpacked.
    """
    if codec == "GZIP":
        stream = zlib.decompressobj(_GZIP)
        try:
            plain = stream.decompress(packed.data, size + 1)
        except zlib.error as error:
            raise pa.ArrowInvalid(str(error)) from error
        if len(plain) != size or not stream.eof or stream.unused_data:
            raise pa.ArrowInvalid(codec)
        return np.frombuffer(plain, np.uint8)
    if codec == "ZSTD" and zstd_size(packed[:18].tobytes()) == size:
        # (The library compares what came out with the frame's own size.)
        return np.frombuffer(pa.Codec("zstd").decompress(pa.py_buffer(packed), size), np.uint8)
    with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(packed)), codec.lower()) as slow:
        found = slow.read_buffer(size + 1)
    if found.size != size:
        raise pa.ArrowInvalid(codec)
    return np.frombuffer(found, np.uint8)


def zstd_size(begin: bytes) -> int:
    """Return the size of a Zstandard frame's content, as its header says it; -1 if it does not.

    See https://www.rfc-editor.org/rfc/rfc8878#name-frame-header: a magic number, a descriptor, a
    window unless all is one segment, a dictionary's number, the size.

    Examples:
        >>> import pyarrow as pa
        >>> zstd_size(pa.Codec("zstd").compress(bytes(1000)).to_pybytes()), zstd_size(b"else")
        (1000, -1)
    """
    if len(begin) < len(_ZSTD) + 1 or not begin.startswith(_ZSTD):
        return -1
    descriptor = begin[4]
    single = descriptor >> 5 & 1
    width = (single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    field = begin[at : at + width]
    if not width or len(field) < width:
        return -1
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)  # noqa: PLR2004
