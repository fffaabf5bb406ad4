"""`arrow`: read Arrow IPC (Feather) files, one record batch at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import ipc

from eai_notebook.errors import EaiError
from eai_notebook.formats.arrow_ipc.arrow_footer import (
    blocks_of,
    check_buffers,
    no_arrow,
    rows_of,
    tail_of,
)
from eai_notebook.formats.bounds import check_memory
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.pyarrow_file import Stream, arrow_file
from eai_notebook.formats.table_reader import fault_in, only, reader_for, row_bytes
from eai_notebook.io.memory.alignment import aligned_bytes
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.part import RowRange, Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.formats.arrow_ipc.arrow_footer import Block
    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.plain_table import Chosen, Missing
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.io.part import Loaded
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".arrow", ".feather", ".ipc"})
_memory = ThreadMemory()


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

    Files of the format before 0.15 are read too. Uncompressed columns go to TensorFlow as they lie in the file. Arguments, batches and errors
    are those of `eai_notebook.io.parquet`; a record batch is what is fetched at once.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        first = schema_of(files[0])
        groups = [
            (file, number, rows_of(file, number))
            for file in files
            for number in range(len(blocks_of(file).batches))
        ]

        def peek(names: list[str]) -> pa.Table | None:
            filled = next(((file, number) for file, number, rows in groups if rows), None)
            return None if filled is None else pa.Table.from_batches([_batch(*filled, names)])

        reader = reader_for(schema, columns, label, missing, first, files[0], peek)
        for file in files:
            if schema_of(file) != first or file is files[0]:
                reader.check(file, schema_of(file))
        for file, number, rows in groups:
            check_memory(f"{file} record batch {number}", rows * row_bytes(reader.spec))
            if not rows:
                # Nobody reads it, so damage that makes it look empty would be silent.
                _batch(file, number, reader.columns)
        parts = [
            ArrowPart(groups[at.group][0], groups[at.group][1], at.begin, at.end, reader)
            for at in share_rows([rows for _, _, rows in groups], rank, size)
        ]
        seen = sum(file.size for file in files)
        return Source(schema.name if schema else "Arrow", parts, reader.spec, len(files), seen)

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
        """Get the record batch.

        Raises:
            EaiError: It is damaged.
        """
        lasting = not self.reader.copies
        batch = _batch(self.file, self.batch, self.reader.columns, lasting=lasting)
        return pa.Table.from_batches([batch.slice(self.begin, self.end - self.begin)])

    def parse(self, fetched: pa.Table) -> Loaded:
        """Make tensors of the columns.

        Raises:
            EaiError: A value is none that its column should hold.
        """
        try:
            return self.reader.read(fetched, {})
        except pa.ArrowException as error:
            raise _damaged(self.file, self.batch, error) from error

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        place = f"{self.file} record batch {self.batch}"
        fault = self.reader.fault(self.fetch(), first_bad)
        return fault_in(place, self.begin + first_bad, fault)


def _batch(
    file: File, number: int, columns: Sequence[str], *, lasting: bool = True
) -> pa.RecordBatch:
    """Return a record batch with some columns; one that is not `lasting` holds until the next one.

    Raises:
        EaiError: It is damaged: its buffers are not what its columns need.
    """
    blocks, kinds = blocks_of(file), schema_of(file)
    wanted = [only(file, kinds.names, name) for name in columns]
    check_buffers(file, number)
    stream = Stream(file)
    try:
        if len(wanted) == len(kinds.names) and not blocks.dictionaries:
            stream.put(*_in_one_go(file, blocks.batches[number], lasting=lasting))
        batch = _opened(file, wanted, stream).get_batch(number)
        # Arrow takes buffers as they are described, however long they are.
        batch.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise _damaged(file, number, error) from error
    if batch.num_rows != rows_of(file, number):
        raise _damaged(file, number, f"it holds {batch.num_rows:,} rows")
    return batch


def _damaged(file: File, number: int, why: object) -> EaiError:
    line = str(why).split("\n", maxsplit=1)[0].rstrip(".") or type(why).__name__
    return EaiError(
        f"{file} record batch {number} (byte {blocks_of(file).batches[number].begin}) is "
        f"damaged ({line})",
        "copy or write the file again",
        code="arrow-damaged",
    )


def _in_one_go(file: File, block: Block, *, lasting: bool) -> tuple[int, NDArray[np.uint8]]:
    """Return where a record batch lies, and its bytes, its columns where TensorFlow wants them."""
    size = block.head + block.body
    memory = aligned_bytes(size, block.head) if lasting else _memory.of(size)
    file.read_into(memory, block.begin)
    return block.begin, memory


@functools.lru_cache(maxsize=4096)
def schema_of(file: File) -> pa.Schema:
    """Return the columns of a file; kept, because every part of it asks.

    Raises:
        EaiError: It is no Arrow file.
    """
    blocks_of(file)
    opened = _opened(file, None)
    if opened.num_record_batches != len(blocks_of(file).batches):
        raise no_arrow(file, "its footer contradicts itself")
    try:
        for name in opened.schema.names:
            name.encode()
    except UnicodeError as error:
        raise no_arrow(file, str(error)) from error
    return opened.schema


def _opened(
    file: File, wanted: Sequence[int] | None, stream: Stream | None = None
) -> ipc.RecordBatchFileReader:
    """Open a file, to read some columns of it, or all where they are None."""
    stream = stream or Stream(file)
    stream.put(*tail_of(file))
    read = ipc.IpcReadOptions(included_fields=sorted(wanted)) if wanted is not None else None
    try:
        return ipc.open_file(arrow_file(stream), options=read)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise no_arrow(file, str(error)) from error
