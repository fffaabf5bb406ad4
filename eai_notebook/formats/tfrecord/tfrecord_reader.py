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
from eai_notebook.io.part import ByEpoch, Loaded, Source
from eai_notebook.io.pipeline.byte_ranges import CHUNK, read, spans_of
from eai_notebook.io.sources.decompress import Unpacked, beginning_of, is_compressed
from eai_notebook.io.sources.file import changed

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
_MEND = 'write it again, or leave bad records out and count them with on_error="skip"'


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

    Every rank reads an equal part of the bytes, and all ranks together every record exactly
    once. In a group, all ranks must call this together.

    Args:
        pattern: The files: a glob, a folder, a file, a list; paths or URLs. Those that end in
            ``.gz``, ``.zst`` or ``.bz2`` are unpacked when they are opened, each by one rank.
        batch_size: Rows in each of this rank's batches.
        schema: Read a click log: one feature a column, integers or, for the categoricals,
            eight hexadecimal digits; absent or empty is missing. The batches are those of
            `eai_notebook.io.criteo` for the same values, bit by bit.
        features: Type and shape of each feature: ``{"x": ("float32", (13,)), "name": ("bytes",
            ())}``; every record must have all of them. None for those of the first record.
        label: The feature a model should predict, ``[batch, 1]``; ``"label"`` if there is one
            and no features are named.
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
    """Return a rank's share of some files' records, of which views differ from epoch to epoch.

    Raises:
        EaiError: A file is damaged.
    """
    kind = ViewPart if isinstance(reader, ByEpoch) else RecordPart
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
        """Return the bytes with the parser's padding; they hold until this thread fetches again."""
        return read(self.file, self.begin, self.end)

    def parse(self, fetched: NDArray[np.uint8]) -> Loaded:
        """Return the good records, and the number in this part of the first bad one.

        Raises:
            EaiError: The bytes are no longer those that were cut into records.
        """
        length = self.end - self.begin
        # (The file may have been written to since then, and its time of change set back.)
        if kernels.walk(fetched, length, length) != (self.rows, length, 0):
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
        text = self.fetch()
        found = self.reader.examples(text, self.rows)
        self.reader.columns(text, found)
        at = self.begin + int(found.starts[first_bad])
        what = self.reader.fault(found, first_bad)
        number = _number(self.file, at)
        mend = SEQUENCE_REMEDY if found.status[first_bad] == kernels.SEQUENCE else _MEND
        return EaiError(f"{self.file} record {number} (byte {at}) {what}", mend, code="row-bad")


@dataclass(frozen=True)
class ViewPart(RecordPart):
    """Whole records of which each epoch sees something else."""

    def at_epoch(self, epoch: int) -> ViewPart:
        """Return the same records as an epoch sees them."""
        assert isinstance(self.reader, ByEpoch)  # noqa: S101 - `parts_of` has seen to it
        return replace(self, reader=self.reader.at_epoch(epoch))


def _records_in(span: Span) -> tuple[tuple[int, int, int], ...]:
    # (What was unpacked must not be kept longer than the data that read it.)
    return _cut.__wrapped__(span) if isinstance(span.file, Unpacked) else _cut(span)


@functools.lru_cache(maxsize=4096)
def _cut(span: Span) -> tuple[tuple[int, int, int], ...]:
    """Return where the parts of a span begin and end, and their records: those that begin in it.

    Kept, because to find it out is to read the file: a cell that is run again need not.
    """
    found = []
    file = span.file
    begin = _record_begin(file, span.begin)
    room = CHUNK
    while begin < span.end:
        end = min(begin + room, file.size)
        text = read(file, begin, end)
        count, stop, wrong = kernels.walk(text, end - begin, span.end - begin)
        if wrong:
            raise _damaged(file, begin + stop, cut_off=False)
        if not count:
            # A record larger than that. Its header says how large, if it is whole.
            room = _room_for(file, begin, text, end)
            continue
        found.append((begin, begin + stop, count))
        begin += stop
        room = CHUNK
    if begin != _record_begin(file, span.end):
        raise EaiError(
            f"{file} holds records within records, so ranks cannot share it out",
            "write it as one file a rank or more, and name the files by rank",
            code="tfrecord-nested",
        )
    return tuple(found)


def _record_begin(file: File, at: int) -> int:
    """Return where the first record begins at or after a byte, found by its checksum."""
    if at == 0:
        return 0
    room = _SEARCH
    while at + kernels.HEADER <= file.size:
        end = min(at + room, file.size)
        text = read(file, at, end)
        found = int(kernels.next_record(text, end - at, file.size - at))
        if found >= 0:
            return at + found
        # (A header may lie across the end of what was searched.)
        at = end - kernels.HEADER + 1
        room *= 2
    return file.size


def _number(file: File, wanted: int) -> int:
    """Return the number, from 1, of the record that begins at a byte."""
    number, at, room = 1, 0, CHUNK
    while at < wanted:
        end = min(at + room, file.size)
        count, stop, _ = kernels.walk(read(file, at, end), end - at, wanted - at)
        if not count and (end == file.size or room > kernels.LARGEST):
            break
        room = CHUNK if count else 2 * room
        number, at = number + count, at + stop
    return number


def _room_for(file: File, begin: int, text: NDArray[np.uint8], end: int) -> int:
    """Return the size of the record that begins at a byte, of which `text` has the first bytes.

    Raises:
        EaiError: The file ends before the record does.
    """
    length = int.from_bytes(text[:8].tobytes(), "little") if end - begin >= kernels.HEADER else 0
    size = length + kernels.FRAME
    if end - begin < kernels.HEADER or length > kernels.LARGEST or begin + size > file.size:
        raise _damaged(file, begin, cut_off=True)
    return size


def _damaged(file: File, at: int, *, cut_off: bool) -> EaiError:
    packed = _packed_by(file)
    if packed:
        return EaiError(
            f"{file} is compressed by {packed}, which its name does not say",
            f"name it *{'.gz' if packed == 'gzip' else '.zst'}, or unpack it"
            if packed != "zlib"
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
        f"{file} has no record at byte {at}, where record {_number(file, at)} should begin",
        "copy or write the file again",
        code="tfrecord-damaged",
    )


def _packed_by(file: File) -> str:
    """Return what a file was compressed with, as far as its first bytes show it."""
    first = read(file, 0, min(4, file.size))[:4].tobytes()
    if first[:2] == b"\x1f\x8b":
        return "gzip"
    if first == b"\x28\xb5\x2f\xfd":
        return "zstd"
    # (TensorFlow's other way to compress records.)
    return "zlib" if first[:2] in {b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"} else ""


def _first(files: list[File]) -> Example:
    """Return the first record of the first file that has one."""
    for file in files:
        body = _first_record(file)
        if body is not None:
            return Example(str(file), _message(file, body))
    raise EaiError("all TFRecord files are empty", "write some records", code="no-rows")


def _first_record(file: File) -> bytes | None:
    """Return the data of a file's first record; None if it has none."""
    room = CHUNK
    while True:
        if is_compressed(file):
            got = beginning_of(file, room)
            text = np.frombuffer(got + bytes(1 + PADDING), np.uint8)
            end, ends = len(got), len(got) < room
        else:
            end = min(room, file.size)
            text, ends = read(file, 0, end), end == file.size
        if not end:
            return None
        count, stop, wrong = kernels.walk(text, end, 1)
        if count:
            return text[kernels.HEADER : stop - kernels.FRAME + kernels.HEADER].tobytes()
        if wrong or ends or room > kernels.LARGEST:
            if is_compressed(file):
                raise EaiError(
                    f"{file} holds no record at byte 0",
                    "copy or write the file again",
                    code="tfrecord-damaged",
                )
            raise _damaged(file, 0, cut_off=not wrong)
        room *= 2


def _message(file: File, body: bytes) -> Any:
    """Return a record's data as a message.

    Raises:
        EaiError: It is another one than a `tf.train.Example`.
    """
    from tensorflow.train import Example as Message
    from tensorflow.train import SequenceExample

    try:
        message = Message.FromString(body)
    except Exception as error:
        raise EaiError(
            f"{file} record 1 is no tf.train.Example",
            "only those can be read",
            code="tfrecord-not-example",
        ) from error
    try:
        sequences = len(SequenceExample.FromString(body).feature_lists.feature_list)
    except Exception:  # noqa: BLE001 - then it is an Example, which may hold anything else
        sequences = 0
    if sequences:
        raise EaiError(
            f"{file} record 1 {SEQUENCE_FAULT}", SEQUENCE_REMEDY, code="tfrecord-not-example"
        )
    return message


assert PADDING >= kernels.FRAME  # noqa: S101 - the kernels look ahead that far
