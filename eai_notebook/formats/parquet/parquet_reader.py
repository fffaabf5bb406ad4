"""`parquet`: read Parquet files, one row group at a time.

`numeric_columns` decodes plainly stored numeric columns; Arrow decodes the others.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from eai_notebook.errors import EaiError
from eai_notebook.formats.bounds import check_memory
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.parquet.numeric_columns import decode_columns, same_type_columns
from eai_notebook.formats.parquet.parquet_footer import (
    COLUMNS,
    ENCRYPTED,
    FIRST,
    ROWS,
    Chunk,
    Chunks,
    chunk_of,
    parse_footer,
)
from eai_notebook.formats.pyarrow_file import Stream, arrow_file, merged, offset_in
from eai_notebook.formats.row_groups import RowGroup, TableOptions, group_reader, group_source
from eai_notebook.formats.table_reader import bad_row, column_index
from eai_notebook.io.opens_again import opens_again
from eai_notebook.io.part import RowRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.parquet.numeric_columns import NumericColumn, SameTypeColumns
    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Loaded, Source
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".parquet", ".pq"})
_TAIL: Final = 1 << 16  # bytes; nearly every footer is shorter


@opens_again
def parquet(
    pattern: Pattern,
    batch_size: int,
    *,
    schema: RowSchema | None = None,
    columns: Chosen = None,
    label: str | None = None,
    missing: Missing = None,
    **options: Unpack[Options],
) -> InputData:
    """Open Parquet files as this rank's batches, ready for `fit`.

    Each rank reads an equal number of rows. A row group is fetched and decoded at once; row groups
    of about 65,000 rows are fastest. In a group, all ranks must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs.
        batch_size: Rows in each of this rank's batches.
        schema: Read a click log: the features equal those of `eai_notebook.io.criteo` for the
            same values, bit by bit. None to read the columns unchanged.
        columns: Names of the columns to read, or ``{"feature": ["column", ...]}`` to join
            columns of one type into one feature ``[batch, columns]``; None for all.
        label: The label's column, ``[batch, 1]``; by default ``"label"``, if it exists and
            `columns` is None.
        missing: The number that replaces a null in numeric columns and in vectors: one for all
            columns, or one for each. Without it, a null float becomes NaN; rows with a null
            integer or vector are bad. Null text becomes empty text.
        **options: `shuffle`, `seed`, `on_error`, `max_skipped`, `uneven`, `readers`, `queue`,
            `shard`: see `eai_notebook.formats.open_files.Options`.

    Returns:
        Batches of ``(features by name, label)``, or of the features alone if there is no label.

    Raises:
        EaiError: No such file or column, files that differ, or not enough rows for one step;
            a bad row while reading.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        footers = [footer_of(file) for file in files]
        groups = [
            RowGroup(file, number, rows)
            for file, footer in zip(files, footers, strict=True)
            for number, rows in enumerate(footer.rows)
        ]
        reader = group_reader(
            TableOptions(schema, columns, label, missing),
            files,
            [footer.schema for footer in footers],
            groups,
            lambda group, names: _read(group.file, group.number, Stream(group.file), names),
            "row group",
        )
        name = schema.name if schema else "Parquet"
        return group_source(name, files, groups, reader, ParquetPart, rank, size)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class ParquetPart(RowRange):
    """Rows `begin` to `end` of a row group: a `Part`."""

    file: File
    group: int
    begin: int
    end: int
    reader: TableReader

    @property
    def name(self) -> str:
        """File, row group and rows in it."""
        return f"{self.file}, row group {self.group}, rows {self.begin}-{self.end}"

    def fetch(self) -> Stream:
        """Read the bytes of the reader's columns."""
        stream = Stream(self.file)
        stream.fetch(self._layout.ranges)
        return stream

    def parse(self, fetched: Stream) -> Loaded:
        """Decode the columns and turn them into features.

        Raises:
            EaiError: The row group is damaged.
        """
        decoded = self._decode_numbers(fetched)
        numbers = {
            name: column.values[self.begin : self.end]
            for name, column in decoded.items()
            if not column.nulls and name in self.reader.numbers
        }
        rest = self._table(fetched, [name for name in self.reader.columns if name not in decoded])
        try:
            others = {
                name: decoded[name].as_arrow(_type(self.file, name)).slice(self.begin, self.rows)
                for name in decoded.keys() - numbers.keys()
            }
            others |= zip(rest.column_names, rest.itercolumns(), strict=True)
            return self.reader.read(pa.table(others), numbers)
        except pa.ArrowException as error:
            raise _damaged(self.file, self.group, error) from error

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        table = self._table(self.fetch(), self.reader.columns)
        where = f"{self.file} row group {self.group}"
        return bad_row(where, self.begin + first_bad, self.reader.fault(table, first_bad))

    @property
    def _layout(self) -> _Layout:
        return _layout(self.file, self.group, tuple(self.reader.columns))

    def _decode_numbers(self, fetched: Stream) -> dict[str, NumericColumn]:
        """Decode numeric columns without Arrow; columns that contradict the footer are left to it."""
        layout = self._layout
        decoded: dict[str, NumericColumn] = {}
        for columns in layout.numeric:
            decoded |= decode_columns(fetched.memory, columns, layout.rows)
        return decoded

    def _table(self, fetched: Stream, columns: Sequence[str]) -> pa.Table:
        if not columns:
            return pa.table({})
        table = _read(self.file, self.group, fetched, columns)
        return table.slice(self.begin, self.end - self.begin)


def _read(file: File, group: int, stream: Stream, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a row group, read by Arrow.

    Raises:
        EaiError: The row group is damaged, or a column is encrypted.
    """
    footer = footer_of(file)
    names = footer.schema.names
    indices = sorted(column_index(file, names, name) for name in columns)
    # (Leaves are chosen by index: names may repeat, or equal the path of a nested column.)
    leaves = [leaf for index in indices for leaf in range(*footer.leaves[index])]
    for leaf in leaves:
        if footer.chunks(group)[leaf].state & ENCRYPTED:
            name = next(names[index] for index in indices if leaf < footer.leaves[index][1])
            raise EaiError(
                f"{file} column {name!r} is encrypted",
                "choose other columns with columns=[...], or write the file without encryption",
                code="parquet-encrypted",
            )
    try:
        opened = pq.ParquetFile(arrow_file(stream), metadata=footer.metadata)
        table = opened.reader.read_row_group(group, column_indices=leaves, use_threads=False)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise _damaged(file, group, error) from error
    rows = footer.rows[group]
    if table.num_columns != len(indices) or any(len(one) != rows for one in table.itercolumns()):
        raise _damaged(file, group, f"its columns do not hold {rows:,} rows")
    return table.rename_columns([names[index] for index in indices])


def _damaged(file: File, group: int, why: object) -> EaiError:
    return EaiError(
        f"{file} row group {group} is damaged ({_first_line(why)})",
        "copy or write the file again",
        code="parquet-damaged",
    )


@dataclass(frozen=True)
class Footer:
    """A file's footer.

    Attributes:
        metadata: The footer as Arrow parses it.
        schema: The top-level columns; a nested column counts as one.
        rows: The number of rows of each row group.
        leaves: For each column of `schema`, the range ``(begin, end)`` of its leaf columns: those
            that are stored.
    """

    metadata: pq.FileMetaData
    schema: pa.Schema
    rows: tuple[int, ...]
    leaves: tuple[tuple[int, int], ...]
    _groups: NDArray[np.int64]
    _columns: NDArray[np.int64]

    @functools.cached_property
    def _names(self) -> list[str | None]:
        """The name of each leaf column; None where it is nested or its name repeats."""
        names: list[str | None] = []
        for field, (begin, end) in zip(self.schema, self.leaves, strict=True):
            flat = end - begin == 1 and not field.type.num_fields
            unique = flat and self.schema.names.count(field.name) == 1
            names += [field.name if unique else None] * (end - begin)
        return names

    def chunks(self, group: int) -> tuple[Chunk, ...]:
        """Return the column chunks of a row group, one for each leaf column."""
        begin, count = self._groups[group, FIRST], self._groups[group, COLUMNS]
        columns = self._columns[begin : begin + count]
        return tuple(map(chunk_of, columns, self._names))


class _Layout(NamedTuple):
    """The byte ranges to fetch of a row group, and the columns that are decoded without Arrow."""

    rows: int
    ranges: list[tuple[int, int]]
    numeric: list[SameTypeColumns]


@functools.lru_cache(maxsize=4096)
def footer_of(file: File) -> Footer:
    """Return a file's footer; cached for the file's parts.

    Raises:
        EaiError: It is not a Parquet file, or is damaged or encrypted.
    """
    stream, length = _fetch_footer(file)
    try:
        metadata = pq.read_metadata(arrow_file(stream))
        schema = metadata.schema.to_arrow_schema()
        names = [name.encode() for name in schema.names]
    except (pa.ArrowException, OSError, MemoryError, UnicodeError) as error:
        raise _damaged_footer(file, length, f" ({_first_line(error)})") from error
    parsed = parse_footer(stream.memory[-8 - length : -8])
    leaves, count = [], 0
    for field in schema:
        leaves.append((count, count + _leaves(field.type)))
        count = leaves[-1][1]
    if (
        parsed is None
        or len(parsed[0]) != metadata.num_row_groups
        or count != metadata.num_columns
        or (parsed[0][:, ROWS] < 0).any()
        or (parsed[0][:, COLUMNS] != count).any()
        or len(names) != len(leaves)
    ):
        raise _damaged_footer(file, length)
    groups, columns = parsed
    rows = tuple(groups[:, ROWS].tolist())
    return Footer(metadata, schema, rows, tuple(leaves), groups, columns)


def _fetch_footer(file: File) -> tuple[Stream, int]:
    """Return a stream whose memory ends with the footer, and the footer's length.

    Raises:
        EaiError: It is not a Parquet file, or is encrypted.
    """
    stream = Stream(file)
    stream.fetch([(max(file.size - _TAIL, 0), file.size)])
    tail = stream.memory[-8:].tobytes()
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == b"PARE":
        raise EaiError(
            f"{file} is encrypted", "write it without encryption", code="parquet-encrypted"
        )
    if len(tail) < 8 or tail[4:] != b"PAR1" or length > file.size - 12:  # noqa: PLR2004
        raise EaiError(
            f"{file} is not a Parquet file or is cut off",
            "copy or write it again",
            code="parquet-damaged",
        )
    if length + 8 > len(stream.memory):
        stream.fetch([(file.size - 8 - length, file.size)])
    return stream, length


def _damaged_footer(file: File, length: int, why: str = "") -> EaiError:
    return EaiError(
        f"{file} has a damaged footer at byte {file.size - 8 - length}{why}",
        "copy or write it again",
        code="parquet-damaged",
    )


def _leaves(kind: pa.DataType) -> int:
    """Return the number of leaf columns of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if kinds.is_dictionary(kind):
        return _leaves(kind.value_type)
    if kinds.is_run_end_encoded(kind):
        return _leaves(kind.value_type)
    if not kind.num_fields:
        return 1
    return sum(_leaves(kind.field(index).type) for index in range(kind.num_fields))


@functools.lru_cache(maxsize=8192)
def _type(file: File, name: str) -> pa.DataType:
    return footer_of(file).schema.field(name).type


@functools.lru_cache(maxsize=8192)
def _layout(file: File, number: int, columns: tuple[str, ...]) -> _Layout:
    """Return the byte ranges of some columns of a row group; cached for further epochs.

    Columns that the footer places outside of the file are not fetched here; Arrow reports them.
    """
    footer = footer_of(file)
    chunks, names = footer.chunks(number), footer.schema.names
    indices = {column_index(file, names, name) for name in columns}
    chosen = [
        chunk
        for index in indices
        for chunk in chunks[slice(*footer.leaves[index])]
        if chunk.lies_in(file.size)
    ]
    size = sum(max(chunk.total_uncompressed_size, 0) for chunk in chosen)
    check_memory(f"{file} row group {number}", size)
    ranges = merged([(one.begin, one.begin + one.total_compressed_size) for one in chosen])
    if _arrow_reads_all():
        return _Layout(footer.rows[number], ranges, [])
    parquet_schema = footer.metadata.schema
    begins = {
        chunk.path_in_schema: offset_in(ranges, chunk.begin)
        for index in indices
        for leaf in range(*footer.leaves[index])
        for chunk in [chunks[leaf]]
        if chunk.path_in_schema is not None
        and chunk.lies_in(file.size)
        and chunk.is_flat(parquet_schema.column(leaf).max_definition_level)
    }
    types = {
        names[index]: np.dtype(kind.to_pandas_dtype())
        for index in indices
        for kind in [footer.schema.field(index).type]
        if kinds.is_integer(kind) or kinds.is_floating(kind)
    }
    numeric = same_type_columns(Chunks(chunks), parquet_schema, types, begins)
    return _Layout(footer.rows[number], ranges, numeric)


def _arrow_reads_all() -> bool:
    """Return whether `EAI_PARQUET=arrow` is set, so that Arrow reads all columns.

    Raises:
        EaiError: The variable has another value.
    """
    value = os.environ.get("EAI_PARQUET", "")
    if value not in {"", "arrow"}:
        raise EaiError(
            f"the environment variable EAI_PARQUET is {value!r}",
            'set it to "arrow" to have Arrow read all columns, or unset it',
            code="environment-invalid",
        )
    return value == "arrow"


def _first_line(error: object) -> str:
    message = str(error) or type(error).__name__
    return message.split("\n", maxsplit=1)[0].rstrip(".")
