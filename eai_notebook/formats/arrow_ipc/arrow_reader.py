"""`arrow`: read Arrow IPC (Feather) files, one record batch at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import ipc

from eai_notebook.errors import EaiError
from eai_notebook.formats.arrow_ipc.arrow_footer import blocks_of, rows_of
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.pyarrow_file import Stream, arrow_file
from eai_notebook.formats.table_reader import fault_in, reader_for
from eai_notebook.io.memory.alignment import aligned_bytes
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from eai_notebook.clicklog.click_schema import ClickSchema
    from eai_notebook.formats.arrow_ipc.arrow_footer import Block
    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.plain_table import Chosen, Missing
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
    schema: ClickSchema | None = None,
    columns: Chosen = None,
    label: str | None = None,
    missing: Missing = None,
    **options: Unpack[Options],
) -> InputData:
    """Open Arrow IPC files (not streams) as this rank's batches, ready for `fit`.

    Uncompressed columns go to TensorFlow as they lie in the file. Arguments, batches and errors
    are those of `eai_notebook.io.parquet`; a record batch is what is fetched at once.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        first = schema_of(files[0])
        reader = reader_for(schema, columns, label, missing, first, files[0])
        for file in files:
            if schema_of(file) != first or file is files[0]:
                reader.check(file, schema_of(file))
        groups = [
            (file, number, rows_of(file, block))
            for file in files
            for number, block in enumerate(blocks_of(file).batches)
        ]
        parts = [
            ArrowPart(groups[at.group][0], groups[at.group][1], at.begin, at.end, reader)
            for at in share_rows([rows for _, _, rows in groups], rank, size)
        ]
        seen = sum(file.size for file in files)
        return Source(schema.name if schema else "Arrow", parts, reader.spec, len(files), seen)

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


@dataclass(frozen=True)
class ArrowPart:
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

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    @property
    def rows(self) -> int:
        """Rows, bad ones included."""
        return self.end - self.begin

    def fetch(self) -> pa.Table:
        """Get the record batch.

        Raises:
            EaiError: It is damaged.
        """
        blocks = blocks_of(self.file)
        kinds = schema_of(self.file)
        every = not set(kinds.names) - set(self.reader.columns)
        try:
            if every and not blocks.dictionaries:
                block = blocks.batches[self.batch]
                batch = _in_one_go(self.file, block, kinds, lasting=not self.reader.copies)
            else:
                batch = _opened(self.file, self.reader.columns).get_batch(self.batch)
        except (pa.ArrowException, OSError) as error:
            raise EaiError(
                f"{self.file} record batch {self.batch} is damaged ({error})",
                "copy or write the file again",
            ) from error
        return pa.Table.from_batches([batch.slice(self.begin, self.end - self.begin)])

    def parse(self, fetched: pa.Table) -> Loaded:
        """Make tensors of the columns."""
        return self.reader.read(fetched, {})

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row."""
        place = f"{self.file} record batch {self.batch}"
        fault = self.reader.fault(self.fetch(), first_bad)
        return fault_in(place, self.begin + first_bad, fault)


def _in_one_go(file: File, block: Block, kinds: pa.Schema, *, lasting: bool) -> pa.RecordBatch:
    """Return a record batch; one that is not `lasting` holds until this thread fetches again."""
    size = block.head + block.body
    memory = aligned_bytes(size, block.head) if lasting else _memory.of(size)
    file.read_into(memory, block.begin)
    return ipc.read_record_batch(ipc.read_message(pa.py_buffer(memory)), kinds)


@functools.lru_cache(maxsize=4096)
def schema_of(file: File) -> pa.Schema:
    """Return the columns of a file; kept, because every part of it asks.

    Raises:
        EaiError: It is no Arrow file.
    """
    return _opened(file, None).schema


def _opened(file: File, columns: object) -> ipc.RecordBatchFileReader:
    """Open a file, to read some columns of it, or all where they are None."""
    try:
        opened = ipc.open_file(arrow_file(Stream(file)))
        if columns is None:
            return opened
        wanted = [place for place, name in enumerate(opened.schema.names) if name in columns]  # type: ignore[operator]
        if len(wanted) == len(opened.schema.names):
            return opened
        read = ipc.IpcReadOptions(included_fields=wanted)
        return ipc.open_file(arrow_file(Stream(file)), options=read)
    except (pa.ArrowException, OSError) as error:
        raise EaiError(
            f"{file} is no Arrow file or cut off ({error})",
            "copy or write it again; a stream of Arrow must be written as a file",
        ) from error
