"""`parquet`: read Parquet files, one row group at a time.

Numbers are decoded by `parquet_numbers` where they are stored plainly enough, the rest by Arrow.
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
from eai_notebook.formats.parquet.numeric_columns import decoded, same_type_columns
from eai_notebook.formats.parquet_footer import (
    COLUMNS,
    ENCRYPTED,
    FIRST,
    ROWS,
    Chunk,
    Chunks,
    chunk_of,
    groups_in,
)
from eai_notebook.formats.pyarrow_file import Stream, arrow_file, merged, offset_in
from eai_notebook.formats.table_reader import fault_in, only, reader_for, row_bytes
from eai_notebook.io.part import RowRange, Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.parquet.numeric_columns import NumericColumns, SameTypeColumns
    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Loaded
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".parquet", ".pq"})
_TAIL: Final = 1 << 16  # bytes in which nearly every footer lies


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

    The ranks share out rows; a row group is what is fetched and decoded at once, so files with
    row groups of about 65,000 rows read best. In a group, all ranks must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs.
        batch_size: Rows in each of this rank's batches.
        schema: Read a click log: the features are those `eai_notebook.io.criteo` gives for the
            same values, bit by bit. None to read columns as they are.
        columns: Names of the columns to read, or ``{"feature": ["column", ...]}`` to put
            columns of one type side by side as ``[batch, columns]``; None for all.
        label: The column a model should predict, ``[batch, 1]``; ``"label"`` if there is one
            and no columns are named.
        missing: What stands for a null among numbers, and for each number of a vector that is
            null: one number, or one a column. Without it, a null among floats is NaN, and rows
            with one among integers, or with no vector, are bad. Among texts it is empty.
        **options: `shuffle`, `seed`, `on_error`, `max_skipped`, `uneven`, `readers`, `queue`,
            `shard`: see `eai_notebook.formats.open_files.Options`.

    Returns:
        Batches of ``(features by name, label)``, or the features alone.

    Raises:
        EaiError: No such file or column, files that differ, or not enough rows for one step;
            a bad row while reading.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        footers = [footer_of(file) for file in files]
        first = footers[0].schema
        groups = [
            (file, number, rows)
            for file, footer in zip(files, footers, strict=True)
            for number, rows in enumerate(footer.rows)
        ]

        def peek(names: list[str]) -> pa.Table | None:
            filled = next(((file, number) for file, number, rows in groups if rows), None)
            return None if filled is None else _read(*filled, Stream(filled[0]), names)

        reader = reader_for(schema, columns, label, missing, first, files[0], peek)
        for file, footer in zip(files, footers, strict=True):
            if not footer.schema.equals(first) or file is files[0]:
                reader.check(file, footer.schema)
        for file, number, rows in groups:
            check_memory(f"{file} row group {number}", rows * row_bytes(reader.spec))
        parts = [
            ParquetPart(groups[at.group][0], groups[at.group][1], at.begin, at.end, reader)
            for at in share_rows([rows for _, _, rows in groups], rank, size)
        ]
        seen = sum(file.size for file in files)
        return Source(schema.name if schema else "Parquet", parts, reader.spec, len(files), seen)

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
        """Get the bytes of the columns that are wanted."""
        stream = Stream(self.file)
        stream.fetch(self._layout.ranges)
        return stream

    def parse(self, fetched: Stream) -> Loaded:
        """Decode the columns and make tensors of them.

        Raises:
            EaiError: The row group is damaged.
        """
        found = self._numbers(fetched)
        full = {
            name: column.values[self.begin : self.end]
            for name, column in found.items()
            if not column.nulls and name in self.reader.numbers
        }
        rest = self._table(fetched, [name for name in self.reader.columns if name not in found])
        try:
            others = {
                name: found[name].as_arrow(_type(self.file, name)).slice(self.begin, self.rows)
                for name in found.keys() - full.keys()
            }
            others |= zip(rest.column_names, rest.itercolumns(), strict=True)
            return self.reader.read(pa.table(others), full)
        except pa.ArrowException as error:
            raise _damaged(self.file, self.group, error) from error

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        table = self._table(self.fetch(), self.reader.columns)
        place = f"{self.file} row group {self.group}"
        return fault_in(place, self.begin + first_bad, self.reader.fault(table, first_bad))

    @property
    def _layout(self) -> _Layout:
        return _layout(self.file, self.group, tuple(self.reader.columns))

    def _numbers(self, fetched: Stream) -> dict[str, NumericColumns]:
        """Decode what can be decoded without Arrow; what is not as described is left to it."""
        layout = self._layout
        found: dict[str, NumericColumns] = {}
        for columns in layout.numbers:
            found |= decoded(fetched.memory, columns, layout.rows)
        return found

    def _table(self, fetched: Stream, wanted: Sequence[str]) -> pa.Table:
        if not wanted:
            return pa.table({})
        table = _read(self.file, self.group, fetched, wanted)
        return table.slice(self.begin, self.end - self.begin)


def _read(file: File, group: int, stream: Stream, wanted: Sequence[str]) -> pa.Table:
    """Return some columns of a row group as Arrow reads them.

    Raises:
        EaiError: The row group is damaged, or a column encrypted.
    """
    footer = footer_of(file)
    names = footer.schema.names
    numbers = sorted(only(file, names, name) for name in wanted)
    # (By place: names may come twice, or look like those of parts of others.)
    places = [place for number in numbers for place in range(*footer.leaves[number])]
    for place in places:
        if footer.chunks(group)[place].state & ENCRYPTED:
            name = next(names[n] for n in numbers if place < footer.leaves[n][1])
            raise EaiError(
                f"{file} column {name!r} is encrypted",
                "choose other columns with columns=[...], or write the file without encryption",
                code="parquet-encrypted",
            )
    try:
        opened = pq.ParquetFile(arrow_file(stream), metadata=footer.metadata)
        table = opened.reader.read_row_group(group, column_indices=places, use_threads=False)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise _damaged(file, group, error) from error
    rows = footer.rows[group]
    if table.num_columns != len(numbers) or any(len(one) != rows for one in table.itercolumns()):
        raise _damaged(file, group, f"its columns do not hold {rows:,} rows")
    return table.rename_columns([names[number] for number in numbers])


def _damaged(file: File, group: int, why: object) -> EaiError:
    return EaiError(
        f"{file} row group {group} is damaged ({_line(why)})",
        "copy or write the file again",
        code="parquet-damaged",
    )


@dataclass(frozen=True)
class Footer:
    """What a file says of itself.

    Attributes:
        metadata: As Arrow wants it.
        schema: Its columns, those that consist of others as one.
        rows: The rows of each row group.
        leaves: Of each column of `schema`, its first and last one among those that are stored.
    """

    metadata: pq.FileMetaData
    schema: pa.Schema
    rows: tuple[int, ...]
    leaves: tuple[tuple[int, int], ...]
    _groups: NDArray[np.int64]
    _columns: NDArray[np.int64]

    @functools.cached_property
    def _names(self) -> list[str | None]:
        """The name of each column that is stored, but for those that others consist of."""
        found: list[str | None] = []
        for field, (begin, end) in zip(self.schema, self.leaves, strict=True):
            alone = end - begin == 1 and not field.type.num_fields
            unique = alone and self.schema.names.count(field.name) == 1
            found += [field.name if unique else None] * (end - begin)
        return found

    def chunks(self, group: int) -> tuple[Chunk, ...]:
        """Return what is said of each column that is stored in a row group."""
        begin, count = self._groups[group, FIRST], self._groups[group, COLUMNS]
        columns = self._columns[begin : begin + count]
        return tuple(map(chunk_of, columns, self._names))


class _Layout(NamedTuple):
    """What to fetch of a row group, and the columns in it that can be decoded without Arrow."""

    rows: int
    ranges: list[tuple[int, int]]
    numbers: list[SameTypeColumns]


@functools.lru_cache(maxsize=4096)
def footer_of(file: File) -> Footer:
    """Return what a file says of itself; kept, because every part of it asks.

    Raises:
        EaiError: It is no Parquet file, damaged, or encrypted.
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
            f"{file} is no Parquet file or cut off",
            "copy or write it again",
            code="parquet-damaged",
        )
    if length + 8 > len(stream.memory):
        stream.fetch([(file.size - 8 - length, file.size)])
    text = stream.memory[-8 - length : -8]
    try:
        metadata = pq.read_metadata(arrow_file(stream))
        schema = metadata.schema.to_arrow_schema()
        names = [one.encode() for one in schema.names]
    except (pa.ArrowException, OSError, MemoryError, UnicodeError) as error:
        raise EaiError(
            f"{file} has a damaged footer at byte {file.size - 8 - length} ({_line(error)})",
            "copy or write it again",
            code="parquet-damaged",
        ) from error
    found = groups_in(text)
    leaves, place = [], 0
    for field in schema:
        leaves.append((place, place + _leaves(field.type)))
        place = leaves[-1][1]
    if (
        found is None
        or len(found[0]) != metadata.num_row_groups
        or place != metadata.num_columns
        or (found[0][:, ROWS] < 0).any()
        or (found[0][:, COLUMNS] != place).any()
        or len(names) != len(leaves)
    ):
        raise EaiError(
            f"{file} has a damaged footer at byte {file.size - 8 - length}",
            "copy or write it again",
            code="parquet-damaged",
        )
    groups, columns = found
    rows = tuple(groups[:, ROWS].tolist())
    return Footer(metadata, schema, rows, tuple(leaves), groups, columns)


def _leaves(kind: pa.DataType) -> int:
    """Return how many columns a type is stored in."""
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if kinds.is_dictionary(kind):
        return _leaves(kind.value_type)
    if kinds.is_run_end_encoded(kind):
        return _leaves(kind.value_type)
    if not kind.num_fields:
        return 1
    return sum(_leaves(kind.field(place).type) for place in range(kind.num_fields))


@functools.lru_cache(maxsize=8192)
def _type(file: File, name: str) -> pa.DataType:
    return footer_of(file).schema.field(name).type


@functools.lru_cache(maxsize=8192)
def _layout(file: File, number: int, columns: tuple[str, ...]) -> _Layout:
    """Return where some columns of a row group lie; kept, because every epoch asks.

    What does not lie in the file, as it is said, is not fetched here: Arrow will find out.
    """
    footer = footer_of(file)
    chunks, names = footer.chunks(number), footer.schema.names
    wanted = {only(file, names, name) for name in columns}
    chosen = [
        chunk
        for field in wanted
        for chunk in chunks[slice(*footer.leaves[field])]
        if chunk.lies_in(file.size)
    ]
    size = sum(max(chunk.total_uncompressed_size, 0) for chunk in chosen)
    check_memory(f"{file} row group {number}", size)
    whole = merged([(one.begin, one.begin + one.total_compressed_size) for one in chosen])
    if _by_arrow():
        return _Layout(footer.rows[number], whole, [])
    kinds_of = footer.metadata.schema
    begins = {
        one.path_in_schema: offset_in(whole, one.begin)
        for field in wanted
        for place in range(*footer.leaves[field])
        for one in [chunks[place]]
        if one.path_in_schema is not None
        and one.lies_in(file.size)
        and one.is_single(kinds_of.column(place).max_definition_level)
    }
    types = {
        names[field]: np.dtype(kind.to_pandas_dtype())
        for field in wanted
        for kind in [footer.schema.field(field).type]
        if kinds.is_integer(kind) or kinds.is_floating(kind)
    }
    numbers = same_type_columns(Chunks(chunks), kinds_of, types, begins)
    return _Layout(footer.rows[number], whole, numbers)


def _by_arrow() -> bool:
    """Whether Arrow should read all columns, as `EAI_PARQUET=arrow` asks for.

    Raises:
        EaiError: The variable says something else.
    """
    way = os.environ.get("EAI_PARQUET", "")
    if way not in {"", "arrow"}:
        raise EaiError(
            f"the environment variable EAI_PARQUET is {way!r}",
            'set it to "arrow" to have Arrow read all columns, or unset it',
            code="environment-invalid",
        )
    return way == "arrow"


def _line(error: object) -> str:
    text = str(error) or type(error).__name__
    return text.split("\n", maxsplit=1)[0].rstrip(".")
