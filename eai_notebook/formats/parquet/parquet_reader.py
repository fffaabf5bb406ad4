"""`parquet`: read Parquet files, one row group at a time.

Numbers are decoded by `parquet_numbers` where they are stored plainly enough, the rest by Arrow.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from eai_notebook.errors import EaiError
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.parquet.numeric_columns import decoded, same_type_columns
from eai_notebook.formats.pyarrow_file import Stream, arrow_file, merged, offset_in
from eai_notebook.formats.table_reader import fault_in, reader_for
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from eai_notebook.clicklog.click_schema import ClickSchema
    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.parquet.numeric_columns import NumericColumns, SameTypeColumns
    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Loaded
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".parquet", ".pq"})


def parquet(
    pattern: Pattern,
    batch_size: int,
    *,
    schema: ClickSchema | None = None,
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
        missing: What stands for a null among integers, one number or one a column; otherwise
            such a row is bad. Among floats, a null is NaN; among texts, empty.
        **options: `shuffle`, `seed`, `on_error`, `max_skipped`, `uneven`, `readers`, `queue`,
            `shard`: see `eai_notebook.formats.open_files.Options`.

    Returns:
        Batches of ``(features by name, label)``, or the features alone.

    Raises:
        EaiError: No such file or column, files that differ, or not enough rows for one step;
            a bad row while reading.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        metadata = [metadata_of(file) for file in files]
        first = metadata[0].schema.to_arrow_schema()
        reader = reader_for(schema, columns, label, missing, first, files[0])
        for file, one in zip(files, metadata, strict=True):
            if not one.schema.equals(metadata[0].schema) or file is files[0]:
                reader.check(file, one.schema.to_arrow_schema())
        groups = [
            (file, number, one.row_group(number).num_rows)
            for file, one in zip(files, metadata, strict=True)
            for number in range(one.num_row_groups)
        ]
        parts = [
            ParquetPart(groups[at.group][0], groups[at.group][1], at.begin, at.end, reader)
            for at in share_rows([rows for _, _, rows in groups], rank, size)
        ]
        seen = sum(file.size for file in files)
        return Source(schema.name if schema else "Parquet", parts, reader.spec, len(files), seen)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class ParquetPart:
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

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    @property
    def rows(self) -> int:
        """Rows, bad ones included."""
        return self.end - self.begin

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
        others = {
            name: found[name]
            .as_arrow(_schema(self.file).field(name).type)
            .slice(self.begin, self.rows)
            for name in found.keys() - full.keys()
        }
        rest = self._table(fetched, [name for name in self.reader.columns if name not in found])
        others |= zip(rest.column_names, rest.itercolumns(), strict=True)
        return self.reader.read(pa.table(others), full)

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        table = self._table(self.fetch(), self.reader.columns)
        place = f"{self.file} row group {self.group}"
        return fault_in(place, self.begin + first_bad, self.reader.fault(table, first_bad))

    @property
    def _layout(self) -> _Layout:
        return _layout(self.file, self.group, tuple(self.reader.columns))

    def _numbers(self, fetched: Stream) -> dict[str, NumericColumns]:
        """Decode what can be decoded without Arrow; what does not come out as told is left to it."""
        layout = self._layout
        found: dict[str, NumericColumns] = {}
        for columns in layout.numbers:
            found |= decoded(fetched.memory, columns, layout.rows)
        return found

    def _table(self, fetched: Stream, wanted: Sequence[str]) -> pa.Table:
        if not wanted:
            return pa.table({})
        try:
            opened = pq.ParquetFile(arrow_file(fetched), metadata=metadata_of(self.file))
            # (To look up hundreds of columns by name would take as long as to read some.)
            every = _names(self.file) == frozenset(wanted)
            table = opened.read_row_group(
                self.group, columns=None if every else list(wanted), use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise EaiError(
                f"{self.file} row group {self.group} is damaged ({_line(error)})",
                "copy or write the file again",
            ) from error
        return table.slice(self.begin, self.end - self.begin)


class _Layout(NamedTuple):
    """What to fetch of a row group, and the columns in it that can be decoded without Arrow."""

    rows: int
    ranges: list[tuple[int, int]]
    numbers: list[SameTypeColumns]


@functools.lru_cache(maxsize=4096)
def metadata_of(file: File) -> pq.FileMetaData:
    """Return what a file says of itself; kept, because every part of it asks.

    Raises:
        EaiError: It is no Parquet file.
    """
    try:
        return pq.read_metadata(arrow_file(Stream(file)))
    except (pa.ArrowException, OSError) as error:
        raise EaiError(
            f"{file} is no Parquet file or cut off ({_line(error)})", "copy or write it again"
        ) from error


@functools.lru_cache(maxsize=4096)
def _schema(file: File) -> pa.Schema:
    return metadata_of(file).schema.to_arrow_schema()


@functools.lru_cache(maxsize=4096)
def _names(file: File) -> frozenset[str]:
    return frozenset(_schema(file).names)


@functools.lru_cache(maxsize=8192)
def _layout(file: File, number: int, columns: tuple[str, ...]) -> _Layout:
    """Return where some columns of a row group lie; kept, because every epoch asks."""
    metadata = metadata_of(file)
    group = metadata.row_group(number)
    wanted = set(columns)
    ranges, begins = [], {}
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema.partition(".")[0] in wanted:
            # (The dictionary, where there is one, lies before the data.)
            begin = column.dictionary_page_offset or column.data_page_offset
            begin = min(begin, column.data_page_offset)
            begins[column.path_in_schema] = begin
            ranges.append((begin, min(begin + column.total_compressed_size, file.size)))
    whole = merged(ranges)
    fetched = {name: offset_in(whole, begin) for name, begin in begins.items()}
    types = {
        field.name: np.dtype(field.type.to_pandas_dtype())
        for field in _schema(file)
        if field.name in wanted and (kinds.is_integer(field.type) or kinds.is_floating(field.type))
    }
    return _Layout(group.num_rows, whole, same_type_columns(group, metadata.schema, types, fetched))


def _line(error: BaseException) -> str:
    return str(error).split("\n", maxsplit=1)[0].rstrip(".")
