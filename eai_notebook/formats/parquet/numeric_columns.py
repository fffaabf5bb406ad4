"""Decoder of a row group's numeric columns: columns of one type go into one 2-D array.

Arrow's reader builds each column separately, value by value with its definition level. Here
dictionary indices are unpacked eight at a time into memory that TensorFlow uses without a copy, and
definition levels become Arrow's validity bitmap. Columns stored in other ways are left to Arrow.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from eai_notebook.formats.parquet.page_headers import (
    COMPRESSED,
    COUNT,
    FIELDS,
    OFFSET,
    SIZE,
    VALUES,
    find_pages,
)
from eai_notebook.formats.parquet.page_values import decode
from eai_notebook.formats.parquet.snappy import decompress_ranges
from eai_notebook.io.memory.alignment import ALIGNMENT, aligned
from eai_notebook.io.memory.buffer_pool import BUFFER_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from eai_notebook.formats.parquet.parquet_footer import Chunk, Chunks

_BYTES: Final = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_UNCOMPRESSED: Final = "UNCOMPRESSED"
_CODECS: Final = frozenset({_UNCOMPRESSED, "SNAPPY", "ZSTD", "GZIP", "BROTLI"})
_ENCODINGS: Final = frozenset({"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"})
_EXPECTED_PAGES: Final = 4  # pages of a column for which memory is allocated first
_MAX_LEVEL_BYTES: Final = 8  # a value's definition level and dictionary index need less
_MAX_PAGE_OVERHEAD: Final = 1024  # bytes of a page that do not depend on its values
_GZIP: Final = 47  # zlib's wbits for a window of 32 KiB and a gzip or zlib header
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


_FoundColumn = tuple[str, tuple[int, int, int, int], int]
"""A column's name, its row of `SameTypeColumns.columns`, and its uncompressed bytes."""


@dataclass(frozen=True)
class SameTypeColumns:
    """Columns of one type and one codec.

    Attributes:
        names: The columns' names.
        dtype: Their type.
        codec: Their compression.
        columns: The input of `page_headers.find_pages`, one row for each name.
        size: Uncompressed bytes of all columns.
    """

    names: tuple[str, ...]
    dtype: np.dtype[Any]
    codec: str
    columns: NDArray[np.int64]
    size: int


def same_type_columns(
    group: pq.RowGroupMetaData | Chunks,
    schema: pq.ParquetSchema,
    wanted: Mapping[str, np.dtype[Any]],
    begins: Mapping[str, int | None],
) -> list[SameTypeColumns]:
    """Return the columns that can be decoded here, grouped by type and codec.

    Args:
        group: The row group.
        schema: The file's leaf columns.
        wanted: The requested columns and their types, by name.
        begins: The index of each column's first byte in the fetched memory.
    """
    found: dict[tuple[np.dtype[Any], str], list[_FoundColumn]] = {}
    for index in range(group.num_columns):
        column, kind = group.column(index), schema.column(index)
        name: Any = column.path_in_schema  # (None if it is nested)
        begin = begins.get(name)
        if name in wanted and begin is not None and _is_supported(column, kind, wanted[name]):
            end = begin + column.total_compressed_size
            row = begin, end, column.num_values, kind.max_definition_level
            size = column.total_uncompressed_size
            found.setdefault((wanted[name], column.compression), []).append((name, row, size))
    return [
        SameTypeColumns(tuple(names), dtype, codec, np.array(rows, np.int64), sum(sizes))
        for (dtype, codec), columns in found.items()
        for names, rows, sizes in [zip(*columns, strict=True)]
    ]


def _is_supported(
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


class NumericColumn(NamedTuple):
    """A column's values, the number of nulls, and the validity bitmap (1 = not null)."""

    values: NDArray[Any]
    nulls: int
    validity: NDArray[np.uint8]

    def as_arrow(self, kind: pa.DataType) -> pa.Array:
        """Return the column as an Arrow array that shares its memory."""
        bitmap = pa.py_buffer(self.validity) if self.nulls else None
        buffers = [bitmap, pa.py_buffer(self.values)]
        return pa.Array.from_buffers(kind, len(self.values), buffers, self.nulls)


def decode_columns(
    memory: NDArray[np.uint8], columns: SameTypeColumns, rows: int
) -> dict[str, NumericColumn]:
    """Return the decoded columns by name; none if the pages contradict the footer.

    Args:
        memory: The fetched bytes.
        columns: The columns to decode.
        rows: Rows of the row group.
    """
    if (columns.columns[:, VALUES] != rows).any():
        return {}
    pages = np.empty((_EXPECTED_PAGES * len(columns.names), FIELDS), np.int64)
    count = find_pages(memory, columns.columns, pages)
    if count > len(pages):
        pages = np.empty((count, FIELDS), np.int64)
        count = find_pages(memory, columns.columns, pages)
    if count <= 0:
        return {}
    pages = pages[:count]
    try:
        decompressed, begins = _decompress(memory, pages, columns)
    except (pa.ArrowException, OSError):
        return {}
    step = ALIGNMENT // columns.dtype.itemsize
    block = aligned((len(columns.names), -(-rows // step) * step), columns.dtype)
    validity = np.zeros((len(columns.names), rows // 8 + 2), np.uint8)
    nulls = np.zeros(len(columns.names), np.int64)
    unsigned = block.view(f"u{columns.dtype.itemsize}")
    addresses = decompressed.ctypes.data + begins
    if not decode(pages, addresses, columns.columns, rows, unsigned, validity, nulls):
        return {}
    decoded = zip(block[:, :rows], nulls.tolist(), validity, strict=True)
    return dict(zip(columns.names, map(NumericColumn._make, decoded), strict=True))


def _decompress(
    memory: NDArray[np.uint8], pages: NDArray[np.int64], columns: SameTypeColumns
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return memory with the decompressed pages, and the index of each page's first byte.

    Raises:
        pyarrow.ArrowException: A page cannot be decompressed.
    """
    begins, codec = pages[:, OFFSET], columns.codec
    if codec == _UNCOMPRESSED:
        if (pages[:, COMPRESSED] != pages[:, SIZE]).any():
            raise pa.ArrowInvalid(codec)
        return memory, begins
    ends = np.cumsum(pages[:, SIZE])
    # Sizes in a damaged file may be huge: they must be plausible for the number of values.
    limits = pages[:, COUNT] * (columns.dtype.itemsize + _MAX_LEVEL_BYTES) + _MAX_PAGE_OVERHEAD
    if ends[-1] > columns.size or (pages[:, SIZE] > limits).any():
        raise pa.ArrowInvalid(codec)
    decompressed = BUFFER_POOL.acquire(int(ends[-1]))
    ranges = np.stack([begins, begins + pages[:, COMPRESSED], ends - pages[:, SIZE], ends], axis=1)
    if codec == "SNAPPY":
        if not decompress_ranges(memory, ranges, decompressed):
            raise pa.ArrowInvalid(codec)
    else:
        for begin, end, low, high in ranges.tolist():
            decompressed[low:high] = decompress_page(memory[begin:end], codec, high - low)
    return decompressed, ranges[:, 2]


def decompress_page(page: NDArray[np.uint8], codec: str, size: int) -> NDArray[np.uint8]:
    """Return a decompressed page, which must have the size in its header.

    Arrow's codecs do not report a shorter page: the rest of their buffer is uninitialized.

    Raises:
        pyarrow.ArrowException: The page has another size or cannot be decompressed.
    """
    if codec == "GZIP":
        stream = zlib.decompressobj(_GZIP)
        try:
            content = stream.decompress(page.data, size + 1)
        except zlib.error as error:
            raise pa.ArrowInvalid(str(error)) from error
        if len(content) != size or not stream.eof or stream.unused_data:
            raise pa.ArrowInvalid(codec)
        return np.frombuffer(content, np.uint8)
    if codec == "ZSTD" and zstd_size(page[:18].tobytes()) == size:
        # (The library checks the frame's own size.)
        return np.frombuffer(pa.Codec("zstd").decompress(pa.py_buffer(page), size), np.uint8)
    with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(page)), codec.lower()) as reader:
        buffer = reader.read_buffer(size + 1)
    if buffer.size != size:
        raise pa.ArrowInvalid(codec)
    return np.frombuffer(buffer, np.uint8)


def zstd_size(begin: bytes) -> int:
    """Return the content size in a Zstandard frame's header; -1 if there is none.

    See https://www.rfc-editor.org/rfc/rfc8878#name-frame-header: a magic number, a descriptor, a
    window descriptor unless the frame is a single segment, a dictionary's number, the size.

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
