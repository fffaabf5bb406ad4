"""Groups of rows in columnar files (Parquet row groups, Arrow record batches) as a rank's source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eai_notebook.formats.bounds import check_memory
from eai_notebook.formats.row_schema import reader_for
from eai_notebook.formats.table_reader import row_bytes
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Part
    from eai_notebook.io.sources.file import File


class RowGroup(NamedTuple):
    """A group of rows that is read at once: its file, its index in it, and its number of rows."""

    file: File
    number: int
    rows: int


class TableOptions(NamedTuple):
    """The options of `parquet` and `arrow` that say what to read."""

    schema: RowSchema | None
    columns: Chosen
    label: str | None
    missing: Missing


def group_reader(
    options: TableOptions,
    files: Sequence[File],
    schemas: Sequence[pa.Schema],
    groups: Sequence[RowGroup],
    read_columns: Callable[[RowGroup, list[str]], pa.Table],
    unit: str,
) -> TableReader:
    """Return the reader of some files' row groups, after a check of every file and group.

    Args:
        options: What to read.
        files: The files.
        schemas: The columns of each file.
        groups: The row groups of all files.
        read_columns: Reads some columns of a group.
        unit: What a group is called in errors: ``"row group"`` or ``"record batch"``.

    Raises:
        EaiError: A column is missing or has another type, or a group does not fit into memory.
    """

    def peek(names: list[str]) -> pa.Table | None:
        first = next((group for group in groups if group.rows), None)
        return None if first is None else read_columns(first, names)

    reader = reader_for(*options, schemas[0], files[0], peek)
    for file, schema in zip(files, schemas, strict=True):
        if file is files[0] or not schema.equals(schemas[0]):
            reader.check(file, schema)
    for group in groups:
        check_memory(f"{group.file} {unit} {group.number}", group.rows * row_bytes(reader.spec))
    return reader


def group_source(
    name: str,
    files: Sequence[File],
    groups: Sequence[RowGroup],
    reader: TableReader,
    part: Callable[[File, int, int, int, TableReader], Part],
    rank: int,
    size: int,
) -> Source:
    """Return a rank's share of the rows of some groups.

    Args:
        name: The format's or the schema's name.
        files: The files.
        groups: Their row groups.
        reader: Makes features of the rows.
        part: Makes a part of a file, a group's index, the first row, the end and the reader.
        rank: The rank.
        size: The number of ranks.
    """
    parts = [
        part(groups[rows.group].file, groups[rows.group].number, rows.begin, rows.end, reader)
        for rows in share_rows([group.rows for group in groups], rank, size)
    ]
    return Source(name, parts, reader.spec, len(files), sum(file.size for file in files))
