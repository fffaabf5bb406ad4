"""`arrow`: read Arrow IPC (Feather) files, one record batch at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import ipc

from eai_notebook.formats.arrow_ipc.arrow_footer import (
    blocks_of,
    check_buffers,
    damaged_batch,
    not_arrow,
    rows_of,
    tail_of,
)
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.pyarrow_file import Stream, arrow_file
from eai_notebook.formats.row_groups import RowGroup, TableOptions, group_reader, group_source
from eai_notebook.formats.table_reader import bad_row, column_index
from eai_notebook.io.memory.alignment import aligned_bytes
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.opens_again import opens_again
from eai_notebook.io.part import RowRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.errors import EaiError
    from eai_notebook.formats.arrow_ipc.arrow_footer import Block
    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Loaded, Source
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".arrow", ".feather", ".ipc"})
_memory = ThreadMemory()


@opens_again
def arrow(
    pattern: Pattern,
    batch_size: int,
    *,
    schema: RowSchema | None = None,
    columns: Chosen = None,
    label: str | None = None,
    missing: Missing = None,
    **options: Unpack[Options],
) -> InputData:
    """Open Arrow IPC files (not streams) as this rank's batches, ready for `fit`.

    Files written before format 0.15 are read too. Uncompressed columns go to TensorFlow without a
    copy. Arguments, batches and errors are those of `eai_notebook.io.parquet`; a record batch is
    fetched at once.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        schemas = [schema_of(file) for file in files]
        batches = [
            RowGroup(file, number, rows_of(file, number))
            for file in files
            for number in range(len(blocks_of(file).batches))
        ]
        reader = group_reader(
            TableOptions(schema, columns, label, missing),
            files,
            schemas,
            batches,
            lambda batch, names: pa.Table.from_batches([_batch(batch.file, batch.number, names)]),
            "record batch",
        )
        for batch in batches:
            if not batch.rows:
                # No part reads it, so damage that makes it look empty would stay unnoticed.
                _batch(batch.file, batch.number, reader.columns)
        name = schema.name if schema else "Arrow"
        return group_source(name, files, batches, reader, ArrowPart, rank, size)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class ArrowPart(RowRange):
    """Rows `begin` to `end` of a record batch: a `Part`."""

    file: File
    batch: int
    begin: int
    end: int
    reader: TableReader

    @property
    def name(self) -> str:
        """File, record batch and rows in it."""
        return f"{self.file}, record batch {self.batch}, rows {self.begin}-{self.end}"

    def fetch(self) -> pa.Table:
        """Read the record batch.

        Raises:
            EaiError: It is damaged.
        """
        batch = _batch(self.file, self.batch, self.reader.columns, reuse=self.reader.copies)
        return pa.Table.from_batches([batch.slice(self.begin, self.end - self.begin)])

    def parse(self, fetched: pa.Table) -> Loaded:
        """Turn the columns into features.

        Raises:
            EaiError: The record batch is damaged.
        """
        try:
            return self.reader.read(fetched, {})
        except pa.ArrowException as error:
            raise damaged_batch(self.file, self.batch, error) from error

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        where = f"{self.file} record batch {self.batch}"
        fault = self.reader.fault(self.fetch(), first_bad)
        return bad_row(where, self.begin + first_bad, fault)


def _batch(
    file: File, number: int, columns: Sequence[str], *, reuse: bool = False
) -> pa.RecordBatch:
    """Return some columns of a record batch.

    Args:
        file: The file.
        number: Index of the record batch in it.
        columns: Names of the columns.
        reuse: Read into this thread's buffer, which the next call overwrites.

    Raises:
        EaiError: The record batch is damaged.
    """
    blocks, schema = blocks_of(file), schema_of(file)
    indices = [column_index(file, schema.names, name) for name in columns]
    check_buffers(file, number)
    stream = Stream(file)
    try:
        if len(indices) == len(schema.names) and not blocks.dictionaries:
            stream.put(*_read_block(file, blocks.batches[number], reuse=reuse))
        batch = _opened(file, indices, stream).get_batch(number)
        # Arrow does not compare the lengths of buffers with those that the columns need.
        batch.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise damaged_batch(file, number, error) from error
    if batch.num_rows != rows_of(file, number):
        raise damaged_batch(file, number, f"it holds {batch.num_rows:,} rows")
    return batch


def _read_block(file: File, block: Block, *, reuse: bool) -> tuple[int, NDArray[np.uint8]]:
    """Return a record batch's offset and its bytes, columns aligned for TensorFlow unless reused."""
    size = block.head + block.body
    memory = _memory.of(size) if reuse else aligned_bytes(size, block.head)
    file.read_into(memory, block.begin)
    return block.begin, memory


@functools.lru_cache(maxsize=4096)
def schema_of(file: File) -> pa.Schema:
    """Return the columns of a file; cached for the file's parts.

    Raises:
        EaiError: It is not an Arrow file.
    """
    blocks_of(file)
    opened = _opened(file, None)
    if opened.num_record_batches != len(blocks_of(file).batches):
        raise not_arrow(file, "its footer contradicts itself")
    try:
        for name in opened.schema.names:
            name.encode()
    except UnicodeError as error:
        raise not_arrow(file, error) from error
    return opened.schema


def _opened(
    file: File, indices: Sequence[int] | None, stream: Stream | None = None
) -> ipc.RecordBatchFileReader:
    """Open a file to read the columns with some indices, or all columns."""
    stream = stream or Stream(file)
    stream.put(*tail_of(file))
    options = None if indices is None else ipc.IpcReadOptions(included_fields=sorted(indices))
    try:
        return ipc.open_file(arrow_file(stream), options=options)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise not_arrow(file, error) from error
