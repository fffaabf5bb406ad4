"""`tfrecord`: read TFRecord files of `tf.train.Example`, with every checksum checked."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.compiled.swar import PADDING
from eai_notebook.errors import EaiError
from eai_notebook.formats.open_files import open_files
from eai_notebook.formats.tfrecord import example_kernels as kernels
from eai_notebook.formats.tfrecord.feature_readers import (
    SEQUENCE_FAULT,
    SEQUENCE_REMEDY,
    Example,
    PlainExamples,
)
from eai_notebook.io.opens_again import opens_again
from eai_notebook.io.part import ByEpoch, Loaded, Source
from eai_notebook.io.pipeline.byte_ranges import CHUNK, read, spans_of
from eai_notebook.io.sources.decompress import Decompressed, beginning_of, is_compressed
from eai_notebook.io.sources.file_entry import changed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.formats.row_schema import RowSchema
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader
    from eai_notebook.io.pipeline.byte_ranges import Span
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SUFFIXES: Final = frozenset({".tfrecord", ".tfrecords"})
_SEARCH: Final = 1 << 16
_REMEDY = 'write it again, or leave bad records out and count them with on_error="skip"'


@opens_again
def tfrecord(
    pattern: Pattern,
    batch_size: int,
    *,
    schema: RowSchema | None = None,
    features: Mapping[str, tuple[Any, tuple[int, ...]]] | None = None,
    label: str | None = None,
    **options: Unpack[Options],
) -> InputData:
    """Open TFRecord files of `tf.train.Example` as this rank's batches, ready for `fit`.

    Each rank reads an equal number of bytes; all ranks together read every record exactly once.
    In a group, all ranks must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs. Files that end in
            ``.gz``, ``.zst`` or ``.bz2`` are decompressed when they are opened, each by one rank.
        batch_size: Rows in each of this rank's batches.
        schema: Read a click log: one feature a column, integers or, for the categoricals,
            eight hexadecimal digits; absent or empty means missing. The batches equal those of
            `eai_notebook.io.criteo` for the same values, bit by bit.
        features: Type and shape of each feature: ``{"x": ("float32", (13,)), "name": ("bytes",
            ())}``; every record must have all of them. None for the features of the first record.
        label: The label's feature, ``[batch, 1]``; by default ``"label"``, if it exists and
            `features` is None.
        **options: See `eai_notebook.formats.open_files.Options`.

    Raises:
        EaiError: No such file, a damaged one, or not enough rows for one step; a bad record
            while reading, named by file, number and byte.
    """

    def describe(files: list[File], rank: int, size: int) -> Source:
        reader: ExampleReader
        if schema is not None:
            reader = schema.example_reader(label or "label")
        else:
            reader = PlainExamples.of(features, label, lambda: _first(files))
        reader.warm_up()
        parts = parts_of(files, rank, size, reader)
        name = schema.name if schema else "TFRecord"
        return Source(name, parts, reader.spec, len(files), sum(file.size for file in files))

    return open_files(pattern, SUFFIXES, batch_size, describe, options)


def parts_of(
    files: list[File], rank: int, size: int, reader: ExampleReader
) -> Sequence[RecordPart]:
    """Return the parts of a rank's share of some files' records.

    Raises:
        EaiError: A file is damaged.
    """
    kind = EpochRecordPart if isinstance(reader, ByEpoch) else RecordPart
    return [
        kind(span.file, begin, end, rows, reader)
        for span in spans_of(files, rank, size)
        for begin, end, rows in _records_in(span)
    ]


@dataclass(frozen=True)
class RecordPart:
    """Whole records of a file: a `Part`."""

    file: File
    begin: int
    end: int
    rows: int
    reader: ExampleReader

    @property
    def name(self) -> str:
        """File and bytes."""
        return f"{self.file}, bytes {self.begin}-{self.end}"

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    def fetch(self) -> NDArray[np.uint8]:
        """Return the bytes, padded for the parser, in a buffer that this thread's next fetch reuses."""
        return read(self.file, self.begin, self.end)

    def parse(self, fetched: NDArray[np.uint8]) -> Loaded:
        """Return the good records, the number of bad ones and the index of the first bad one.

        Raises:
            EaiError: The file has changed since it was opened.
        """
        length = self.end - self.begin
        # (A file may be written to and keep its time of modification.)
        if kernels.count_records(fetched, length, length) != (self.rows, length, 0):
            raise changed(self.file)
        found = self.reader.examples(fetched, self.rows)
        columns = self.reader.columns(fetched, found)
        bad = found.status != kernels.GOOD
        count = int(np.count_nonzero(bad))
        if not count:
            return Loaded(columns)
        good = {name: column[~bad] for name, column in columns.items()}
        return Loaded(good, count, int(np.argmax(bad)))

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a record of this part."""
        data = self.fetch()
        found = self.reader.examples(data, self.rows)
        self.reader.columns(data, found)
        offset = self.begin + int(found.starts[first_bad])
        fault = self.reader.fault(found, first_bad)
        number = _number(self.file, offset)
        remedy = SEQUENCE_REMEDY if found.status[first_bad] == kernels.SEQUENCE else _REMEDY
        what = f"{self.file} record {number} (byte {offset}) {fault}"
        return EaiError(what, remedy, code="row-bad")


@dataclass(frozen=True)
class EpochRecordPart(RecordPart):
    """Whole records that are read in another way each epoch, such as images with random crops."""

    def at_epoch(self, epoch: int) -> EpochRecordPart:
        """Return the same records with the reader of an epoch."""
        assert isinstance(self.reader, ByEpoch)  # noqa: S101 - `parts_of` has checked it
        return replace(self, reader=self.reader.at_epoch(epoch))


def _records_in(span: Span) -> tuple[tuple[int, int, int], ...]:
    # (The cache must not keep a decompressed file longer than its data set.)
    return _cut.__wrapped__(span) if isinstance(span.file, Decompressed) else _cut(span)


@functools.lru_cache(maxsize=4096)
def _cut(span: Span) -> tuple[tuple[int, int, int], ...]:
    """Return begin, end and number of records of each part of a span.

    Records belong to the span in which they begin. Cached: a cell that is run again need not read
    the file to find them.
    """
    found = []
    file = span.file
    begin = _next_record(file, span.begin)
    room = CHUNK
    while begin < span.end:
        end = min(begin + room, file.size)
        data = read(file, begin, end)
        count, stop, wrong = kernels.count_records(data, end - begin, span.end - begin)
        if wrong:
            raise _damaged(file, begin + stop, cut_off=False)
        if not count:
            # The record is larger than `room`; its header has its size.
            room = _room_for(file, begin, data, end)
            continue
        found.append((begin, begin + stop, count))
        begin += stop
        room = CHUNK
    if begin != _next_record(file, span.end):
        raise EaiError(
            f"{file} has TFRecord files as the data of its records, so it cannot be split",
            "write at least one file for each rank",
            code="tfrecord-nested",
        )
    return tuple(found)


def _next_record(file: File, at: int) -> int:
    """Return the offset of the first record at or after a byte, found by its checksum."""
    if at == 0:
        return 0
    room = _SEARCH
    while at + kernels.HEADER <= file.size:
        end = min(at + room, file.size)
        data = read(file, at, end)
        found = int(kernels.next_record(data, end - at, file.size - at))
        if found >= 0:
            return at + found
        # (A header may cross the end of the searched bytes.)
        at = end - kernels.HEADER + 1
        room *= 2
    return file.size


def _number(file: File, wanted: int) -> int:
    """Return the number, from 1, of the record that begins at a byte."""
    number, at, room = 1, 0, CHUNK
    while at < wanted:
        end = min(at + room, file.size)
        count, stop, _ = kernels.count_records(read(file, at, end), end - at, wanted - at)
        if not count and (end == file.size or room > kernels.MAX_DATA):
            break
        room = CHUNK if count else 2 * room
        number, at = number + count, at + stop
    return number


def _room_for(file: File, begin: int, data: NDArray[np.uint8], end: int) -> int:
    """Return the size of the record at offset `begin`, whose first bytes are `data`.

    Raises:
        EaiError: The file ends before the record does.
    """
    length = int.from_bytes(data[:8].tobytes(), "little") if end - begin >= kernels.HEADER else 0
    size = length + kernels.FRAME
    if end - begin < kernels.HEADER or length > kernels.MAX_DATA or begin + size > file.size:
        raise _damaged(file, begin, cut_off=True)
    return size


def _damaged(file: File, at: int, *, cut_off: bool) -> EaiError:
    compression = _compression_of(file)
    if compression:
        return EaiError(
            f"{file} is compressed by {compression}, but its name has no such suffix",
            f"name it *{'.gz' if compression == 'gzip' else '.zst'}, or decompress it"
            if compression != "zlib"
            else "write it again, with gzip and a name that ends in .gz",
            code="compression-not-in-name",
        )
    if cut_off:
        return EaiError(
            f"{file} is cut off in record {_number(file, at)}, which begins at byte {at} "
            f"of {file.size}",
            "copy or write the file again",
            code="tfrecord-damaged",
        )
    return EaiError(
        f"{file} has no valid record at byte {at}, where record {_number(file, at)} should begin",
        "copy or write the file again",
        code="tfrecord-damaged",
    )


def _compression_of(file: File) -> str:
    """Return the compression that a file's first bytes show; empty if none."""
    first = read(file, 0, min(4, file.size))[:4].tobytes()
    if first[:2] == b"\x1f\x8b":
        return "gzip"
    if first == b"\x28\xb5\x2f\xfd":
        return "zstd"
    # (TensorFlow can compress records with zlib, too.)
    return "zlib" if first[:2] in {b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"} else ""


def _first(files: list[File]) -> Example:
    """Return the first record of the first file that has one."""
    for file in files:
        body = _first_record(file)
        if body is not None:
            return Example(str(file), _message(file, body))
    raise EaiError("all TFRecord files are empty", "write at least one record", code="no-rows")


def _first_record(file: File) -> bytes | None:
    """Return the data of a file's first record; None if it has none."""
    room = CHUNK
    while True:
        if is_compressed(file):
            beginning = beginning_of(file, room)
            data = np.frombuffer(beginning + bytes(1 + PADDING), np.uint8)
            end, complete = len(beginning), len(beginning) < room
        else:
            end = min(room, file.size)
            data, complete = read(file, 0, end), end == file.size
        if not end:
            return None
        count, stop, wrong = kernels.count_records(data, end, 1)
        if count:
            return data[kernels.HEADER : stop - kernels.FRAME + kernels.HEADER].tobytes()
        if wrong or complete or room > kernels.MAX_DATA:
            if is_compressed(file):
                raise EaiError(
                    f"{file} has no valid record at byte 0",
                    "copy or write the file again",
                    code="tfrecord-damaged",
                )
            raise _damaged(file, 0, cut_off=not wrong)
        room *= 2


def _message(file: File, body: bytes) -> Any:
    """Return a record's data as a message.

    Raises:
        EaiError: It is not a `tf.train.Example`.
    """
    from tensorflow.train import Example as Message
    from tensorflow.train import SequenceExample

    try:
        message = Message.FromString(body)
    except Exception as error:
        raise EaiError(
            f"{file} record 1 is not a tf.train.Example",
            "write Examples, or read the file with eai.io.map_files",
            code="tfrecord-not-example",
        ) from error
    try:
        sequences = len(SequenceExample.FromString(body).feature_lists.feature_list)
    except Exception:  # noqa: BLE001 - then it is an Example with other fields
        sequences = 0
    if sequences:
        raise EaiError(
            f"{file} record 1 {SEQUENCE_FAULT}", SEQUENCE_REMEDY, code="tfrecord-not-example"
        )
    return message


assert PADDING >= kernels.FRAME  # noqa: S101 - the kernels read that far beyond the records
