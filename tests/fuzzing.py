"""Change files at random and read them in child processes, beside the library that reads them.

A format has some small whole files, a way to change them, our reader and the library's. Every
mutation follows from its seed and number alone. A child goes through many; where one ends it, the
next child goes on with the mutation after that.
"""

from __future__ import annotations

import gzip
import io
import json
import mmap
import os
import random
import resource
import signal
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

import eai_notebook.formats.arrow_ipc.arrow_reader as arrow_module
import eai_notebook.formats.fixed_width as binary_module
import eai_notebook.formats.parquet.parquet_reader as parquet_module
import eai_notebook.formats.tfrecord.tfrecord_reader as tfrecord_module
from eai_notebook.clicklog.click_schema import CRITEO
from eai_notebook.clicklog.text_part import TextPart
from eai_notebook.errors import EaiError
from eai_notebook.formats.images.crops import CropSampler
from eai_notebook.formats.images.image_decode import decode_crop
from eai_notebook.formats.parquet.snappy import decompress_ranges
from eai_notebook.formats.tfrecord.example_kernels import FRAME, HEADER
from eai_notebook.io.pipeline.byte_ranges import cut_all, spans_of
from eai_notebook.io.sources.decompress import decompress
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.io.part import Source

Values = dict[str, Any]
"""What was read: columns, or whatever else can be compared."""

CPU_S: Final = 20
"""Seconds of processor time after which a mutation counts as endless."""

_SILENT_S: Final = 300  # seconds after which a child that does nothing counts as endless, too
_MEMORY: Final = 6 << 30  # bytes a child may ask for beyond what it has
_RARE: Final = (0, 1, 2, 3, 5, 0x15, 0x2C, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
_NUMBERS: Final = (-1, 0, 1, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1, -(1 << 63), 1 << 62)

READ, REFUSED, OTHER, STRICTER, DIFFERENT, MORE = range(1, 7)
"""How a mutation ended: both read it alike or refused it; an error that is none of ours; we refuse
what the library reads; other values than the library's; values where the library refuses."""


class LibraryError(Exception):
    """The library refuses a file."""


@dataclass(frozen=True)
class Format:
    """A kind of file, with two readers."""

    name: str
    suffix: str
    bases: Sequence[bytes]
    mutate: Callable[[random.Random, bytes], bytes]
    ours: Callable[[str], Values | None]
    theirs: Callable[[str], Values] | None = None


@dataclass
class Outcome:
    """What came of some mutations, by number."""

    counts: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add what came of others."""
        self.counts += other.counts
        self.crashes += other.crashes
        self.hangs += other.hangs
        self.differences += other.differences


def run(formats: Sequence[Format], seed: int, count: int, folder: Path) -> Outcome:
    """Read `count` mutations of each format and return what came of them.

    Files that end badly stay in the folder.
    """
    whole = Outcome()
    for one in formats:
        for base in one.bases:  # compiled and loaded before the first child begins
            path = folder / f"base{one.suffix}"
            path.write_bytes(base)
            assert one.ours(str(path)) is not None
            path.unlink()
        whole.add(_run_format(one, seed, count, folder))
    return whole


def _run_format(one: Format, seed: int, count: int, folder: Path) -> Outcome:
    shared = mmap.mmap(-1, 16 + count)
    outcome, begin = Outcome(), 0
    while begin < count:
        child = os.fork()
        if not child:
            try:
                _read_some(one, seed, begin, count, folder, shared)
            finally:
                os._exit(0)
        status = _waited(child, shared)
        number, ours = struct.unpack_from("<qB", shared)
        if status == 0:
            break
        name = f"{one.name}-{seed}-{number}"
        if not ours:
            outcome.counts["library crashed"] += 1
        elif status in {-signal.SIGPROF, -signal.SIGALRM}:
            outcome.hangs.append(name)
        else:
            outcome.crashes.append(f"{name} (signal {-status})")
        begin = number + 1
    labels = {READ: "read", REFUSED: "refused", STRICTER: "refused here only"}
    for number, code in enumerate(shared[16:]):
        name = f"{one.name}-{seed}-{number}"
        if code in labels:
            outcome.counts[labels[code]] += 1
        elif code == OTHER:
            outcome.crashes.append(f"{name} (no EaiError)")
        elif code:
            what = "other values" if code == DIFFERENT else "values where the library refuses"
            outcome.differences.append(f"{name} ({what})")
    outcome.counts["mutations"] += count
    return outcome


def _waited(child: int, shared: mmap.mmap) -> int:
    """Return how a child has ended, ended by us where it does nothing any more."""
    last, since = -1, time.monotonic()
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        (number,) = struct.unpack_from("<q", shared)
        if number != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > _SILENT_S:
            os.kill(child, signal.SIGALRM)
        time.sleep(0.01)


def _read_some(
    one: Format, seed: int, begin: int, end: int, folder: Path, shared: mmap.mmap
) -> None:
    """Read mutations, in a child."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for one_signal in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(one_signal, signal.SIG_DFL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(begin, end):
        struct.pack_into("<qB", shared, 0, number, 1)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        path = folder / f"{one.name}-{seed}-{number}{one.suffix}"
        path.write_bytes(mutation(one, seed, number))
        code, why = _compared(one, str(path), shared, number)
        shared[16 + number] = code
        if code in {READ, REFUSED, STRICTER}:
            path.unlink()
        else:
            path.with_suffix(".why").write_text(why)


def mutation(one: Format, seed: int, number: int) -> bytes:
    """Return a changed file."""
    drawn = random.Random(f"{one.name} {seed} {number}")
    return one.mutate(drawn, drawn.choice(one.bases))


def _compared(one: Format, path: str, shared: mmap.mmap, number: int) -> tuple[int, str]:
    ours, why = None, ""
    try:
        ours = one.ours(path)
    except EaiError as error:
        why = str(error)
    except BaseException as error:  # noqa: BLE001 - which is a fault
        return OTHER, f"{type(error).__name__}: {error}"
    if one.theirs is None:
        return READ if ours is not None else REFUSED, why
    struct.pack_into("<qB", shared, 0, number, 0)
    theirs = None
    try:
        theirs = one.theirs(path)
    except Exception as error:  # noqa: BLE001 - of any kind
        why += f"; the library: {type(error).__name__} {error}"
    if ours is None:
        return (REFUSED if theirs is None else STRICTER), why
    if theirs is None:
        return MORE, why
    different = [name for name in {**ours, **theirs} if not _same(ours.get(name), theirs.get(name))]
    if different:
        name = different[0]
        return DIFFERENT, f"{name}: {ours.get(name)!r} and {theirs.get(name)!r}"
    return READ, ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype.hasobject or other.dtype.hasobject:
            return one.shape == other.shape and bool(one.tolist() == other.tolist())
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


# ------------------------------------------------------------------------------------ changes


def changed(drawn: random.Random, base: bytes) -> bytes:
    """Change some bytes, or cut, or repeat, or leave out a stretch."""
    text = bytearray(base)
    way = drawn.random()
    if way < 0.06:
        return bytes(text[: drawn.randrange(len(text))])
    if way < 0.14:
        begin = drawn.randrange(len(text))
        end = min(begin + drawn.choice([1, 4, 8, 64]), len(text))
        if drawn.random() < 0.5:
            del text[begin:end]
        else:
            text[begin:begin] = text[begin:end]
        return bytes(text)
    if way < 0.3:
        width, form = drawn.choice([(4, "<I"), (8, "<Q")])
        if len(text) > width:
            value = drawn.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            struct.pack_into(form, text, drawn.randrange(len(text) - width), value)
        return bytes(text)
    for _ in range(drawn.choice([1, 1, 1, 2, 4, 8])):
        text[drawn.randrange(len(text))] = drawn.choice([*_RARE, drawn.randrange(256)])
    return bytes(text)


def changed_metadata(drawn: random.Random, base: bytes) -> bytes:
    """Change a file mostly where it describes itself: at its end."""
    if drawn.random() < 0.5:
        return changed(drawn, base)
    foot = int.from_bytes(base[-8:-4], "little") + 8
    begin = max(len(base) - foot, 0)
    return base[:begin] + changed(drawn, base[begin:-8]) + base[-8:]


# ------------------------------------------------------------------------------------ Parquet


def _table(rows: int = 60) -> pa.Table:
    rng = np.random.default_rng(0)
    numbers = pa.array([None if i % 7 == 0 else i for i in range(rows)], pa.int64())
    return pa.table(
        {
            "a": numbers,
            "b": rng.normal(size=rows).astype("f4"),
            "c": (np.arange(rows) % 17).astype("i4"),
            "text": [None if i % 5 == 0 else f"some {i % 9}" for i in range(rows)],
            "list": pa.array(rng.normal(size=(rows, 3)).tolist(), pa.list_(pa.float32())),
        }
    )


def _parquet_bases() -> list[bytes]:
    whole = _table()
    kinds = {"b": pa.float32(), "c": pa.int32()}
    required = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
    numbers, plain = whole.select(["a", "b", "c"]), whole.select(["b", "c"]).cast(required)
    ways: list[tuple[pa.Table, dict[str, Any]]] = [
        (numbers, {"compression": codec, "use_dictionary": dictionary, "data_page_size": 128})
        for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4")
        for dictionary in (True, False)
    ]
    ways += [
        (plain, {"compression": "none", "use_dictionary": False}),
        (plain, {"compression": "none"}),
        (whole, {"compression": "none"}),
        (whole, {"compression": "snappy", "row_group_size": 20}),
        (numbers, {"compression": "none", "data_page_version": "2.0"}),
        (numbers, {"compression": "none", "column_encoding": "DELTA_BINARY_PACKED"}),
    ]
    bases = []
    for table, options in ways:
        target = io.BytesIO()
        if "column_encoding" in options:
            table = table.select(["a", "c"])  # noqa: PLW2901
            options = {**options, "use_dictionary": False}  # noqa: PLW2901
        pq.write_table(table, target, **options)
        bases.append(target.getvalue())
    return bases


def _opened(module: Any, reader: Callable[..., Any], path: str, **options: Any) -> Source:
    """Return what a reader finds in a file, without the batches."""
    described: list[Any] = []

    def note(_pattern: Any, _suffixes: Any, _size: Any, describe: Any, _options: Any) -> Any:
        described.append(describe)
        return SimpleNamespace()

    found = module.open_files
    module.open_files = note
    try:
        reader(path, 1, **options)
    finally:
        module.open_files = found
    source: Source = described[0](find_files(path), 0, 1)
    return source


def _read(source: Source) -> Values:
    """Return all rows of a source."""
    if not source.rows:
        raise EaiError(
            "there are no rows", "write some", code="no-rows"
        )  # as before the first step
    pieces = []
    for part in source.parts:
        loaded = part.parse(part.fetch())
        if loaded.bad:
            raise part.fault(loaded.first_bad)
        columns = {name: np.array(column, copy=True) for name, column in loaded.columns.items()}
        if any(len(column) != part.rows for column in columns.values()):
            raise AssertionError(part.name)
        pieces.append(columns)
    return {
        name: np.concatenate(
            [np.empty((0, *one.shape), one.dtype), *(piece[name] for piece in pieces)]
        )
        for name, one in source.spec.items()
    }


def _as_values(table: pa.Table, *, full: bool = False) -> Values:
    """Return a table's columns as our readers give them, with -1 for nulls."""
    table.validate(full=full)
    if len(set(table.column_names)) < table.num_columns:
        raise LibraryError("two columns have one name")
    return {name: _as_array(table.column(name)) for name in table.column_names}


def _as_array(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        rows = column.to_pylist()
        lengths = {len(row) for row in rows if row is not None}
        if len(lengths) != 1:
            raise LibraryError("vectors of several lengths, or of none")
        (size,) = lengths
        found = np.full((len(rows), size), -1, kind.value_type.to_pandas_dtype())
        flat = column.combine_chunks().flatten()
        flat = flat.fill_null(-1) if flat.null_count else flat
        found[[row is not None for row in rows]] = flat.to_numpy().reshape(-1, size)
        return found
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        texts = column.cast(pa.large_binary()).to_pylist()
        return np.array([one or b"" for one in texts] + [None], object)[:-1]
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int64())
    if column.null_count:
        column = column.fill_null(pa.scalar(-1, column.type))
    values: np.ndarray = column.to_numpy()
    return values


PARQUET = Format(
    "parquet",
    ".parquet",
    _parquet_bases(),
    changed_metadata,
    lambda path: _read(_opened(parquet_module, parquet_module.parquet, path, missing=-1)),
    lambda path: _as_values(pq.ParquetFile(path).read(use_threads=False)),
)


# ------------------------------------------------------------------------------------- Arrow


def _arrow_bases() -> list[bytes]:
    whole = _table()
    coded = whole.set_column(3, "text", whole.column("text").dictionary_encode())
    options: list[dict[str, Any]] = [{}, {"compression": "lz4"}, {"compression": "zstd"}]
    options.append({"use_legacy_format": True, "metadata_version": ipc.MetadataVersion.V4})
    bases = []
    for table in (whole, whole.select(["a", "b", "c"]), coded):
        for one in options:
            target = io.BytesIO()
            with ipc.new_file(target, table.schema, options=ipc.IpcWriteOptions(**one)) as out:
                out.write_table(table, max_chunksize=30)
            bases.append(target.getvalue())
    return bases


ARROW = Format(
    "arrow",
    ".arrow",
    _arrow_bases(),
    changed,
    lambda path: _read(_opened(arrow_module, arrow_module.arrow, path, missing=-1)),
    lambda path: _as_values(ipc.open_file(path).read_all(), full=True),
)


# ---------------------------------------------------------------------------------- TFRecord

_FEATURES: Final = {
    "a": ("int64", ()),
    "b": ("float32", (2,)),
    "s": ("bytes", ()),
    "longer name of it": ("int64", ()),
    "many": ("int64", (3,)),
}
_KINDS: Final = {"int64": "int64_list", "float32": "float_list", "bytes": "bytes_list"}


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        crc = number
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC: Final = _crc_table()


def _masked(text: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in text:
        crc = _CRC[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Return data as a record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    sums = struct.pack("<I", _masked(length)), struct.pack("<I", _masked(data))
    return length + sums[0] + data + sums[1]


def records_in(text: bytes) -> list[bytes]:
    """Return the data of the records of a TFRecord file.

    Raises:
        LibraryError: It is none.
    """
    found, at = [], 0
    while at < len(text):
        length = int.from_bytes(text[at : at + 8], "little")
        end = at + HEADER + length
        if (
            end + 4 > len(text)
            or struct.pack("<I", _masked(text[at : at + 8])) != text[at + 8 : at + 12]
        ):
            raise LibraryError("no record")
        data = text[at + HEADER : end]
        if struct.pack("<I", _masked(data)) != text[end : end + 4]:
            raise LibraryError("wrong sum")
        found.append(data)
        at += FRAME + length
    return found


def _tfrecord_bases() -> list[bytes]:
    from tensorflow import train

    def feature(name: str, number: int) -> Any:
        values: Any = {
            "a": [number - 3],
            "b": [number / 2, -1.0],
            "s": [b"some %d" % number],
            "longer name of it": [-number],
            "many": [number, 1 << 40, -1],
            "other": [b"", b"x" * 9],
        }[name]
        if isinstance(values[0], bytes):
            return train.Feature(bytes_list=train.BytesList(value=values))
        if isinstance(values[0], float):
            return train.Feature(float_list=train.FloatList(value=values))
        return train.Feature(int64_list=train.Int64List(value=values))

    def example(names: Sequence[str], number: int) -> bytes:
        features = train.Features(feature={name: feature(name, number) for name in names})
        text: bytes = train.Example(features=features).SerializeToString(deterministic=True)
        return text

    return [
        b"".join(record(example(names, number)) for number in range(8))
        for names in ([*_FEATURES], [*_FEATURES, "other"])
    ]


def _changed_records(drawn: random.Random, base: bytes) -> bytes:
    """Change data within records, and have their sums fit, as an author who means it."""
    if drawn.random() < 0.15:
        return changed(drawn, base)
    records = records_in(base)
    for _ in range(drawn.choice([1, 1, 2, 4])):
        place = drawn.randrange(len(records))
        if records[place]:
            records[place] = changed(drawn, records[place])
    return b"".join(map(record, records))


def _messages() -> Any:
    """Return a message like Example whose features are bytes, which are parsed where they are wanted.

    So TensorFlow's `parse_example` does it, too: a feature that nobody wants may be anything.
    """
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="fuzzing.proto", package="fuzzing")
    kinds = descriptor_pb2.FieldDescriptorProto
    ways = {
        "Entry": [("key", kinds.TYPE_BYTES, ""), ("value", kinds.TYPE_BYTES, "")],
        "Features": [("feature", kinds.TYPE_MESSAGE, ".fuzzing.Entry")],
        "Example": [("features", kinds.TYPE_MESSAGE, ".fuzzing.Features")],
    }
    for name, fields in ways.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind, inner) in enumerate(fields, 1):
            many = name == "Features"
            label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            message.field.add(
                name=field_name, number=number, type=kind, label=label, type_name=inner or None
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fuzzing.Example"))


def _examples(path: str) -> Values:
    from tensorflow.train import Feature

    kind_of = _messages()
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    for data in records_in(Path(path).read_bytes()):
        entries = kind_of.FromString(data).features.feature
        values_of = {entry.key: entry.value for entry in entries}
        features = {
            name: Feature.FromString(values_of[name.encode()])
            for name in _FEATURES
            if name.encode() in values_of
        }
        for name, (kind, shape) in _FEATURES.items():
            if name not in features or features[name].WhichOneof("kind") != _KINDS[kind]:
                raise LibraryError(name)
            values = list(getattr(features[name], _KINDS[kind]).value)
            if len(values) != int(np.prod(shape, dtype=np.int64)):
                raise LibraryError(name)
            columns[name].append(values if shape else values[0])
    types = {"int64": np.int64, "float32": np.float32}
    return {
        name: np.array([*column, None], object)[:-1]
        if kind == "bytes"
        else np.array(column, types[kind]).reshape(len(column), *shape)
        for (name, column), (kind, shape) in zip(columns.items(), _FEATURES.values(), strict=True)
    }


TFRECORD = Format(
    "tfrecord",
    ".tfrecord",
    _tfrecord_bases(),
    _changed_records,
    lambda path: _read(
        _opened(tfrecord_module, tfrecord_module.tfrecord, path, features=_FEATURES)
    ),
    _examples,
)


# ------------------------------------------------------------------------------------ others


def _npy_bases() -> list[bytes]:
    rows = np.zeros(40, [("x", "<f4", (3,)), ("n", ">i8"), ("label", "u1")])
    rows["x"], rows["n"] = np.arange(120).reshape(40, 3), np.arange(40)
    target = io.BytesIO()
    np.save(target, rows)
    return [target.getvalue()]


def _npy(path: str) -> Values:
    rows = np.load(path, allow_pickle=False)
    if rows.ndim != 1 or not rows.dtype.names:
        raise LibraryError(str(rows.shape))
    return {
        name: rows[name]
        .astype(rows.dtype[name].base.newbyteorder("="))
        .reshape(len(rows), *(rows.dtype[name].shape or ((1,) if name == "label" else ())))
        for name in rows.dtype.names
    }


NPY = Format(
    "npy",
    ".npy",
    _npy_bases(),
    lambda drawn, base: (
        changed(drawn, base[:256]) + base[256:] if drawn.random() < 0.7 else changed(drawn, base)
    ),
    lambda path: _read(_opened(binary_module, binary_module.binary, path)),
    _npy,
)


def _unpacked(path: str) -> Values:
    file = decompress(find_files(path)[0])
    with file.open() as stream:
        return {"content": stream.read()}


_CONTENT: Final = b"".join(b"%d\tsome text\n" % (i * i) for i in range(200))
GZIP = Format(
    "gzip",
    ".gz",
    [gzip.compress(_CONTENT, mtime=0), gzip.compress(_CONTENT[:99], mtime=0) * 2],
    changed,
    _unpacked,
    lambda path: {"content": gzip.decompress(Path(path).read_bytes())},
)
ZSTD = Format(
    "zstd", ".zst", [pa.Codec("zstd").compress(_CONTENT).to_pybytes()], changed, _unpacked
)


def _snappy(path: str) -> Values | None:
    text = np.frombuffer(Path(path).read_bytes(), np.uint8)
    plain = np.zeros(len(_CONTENT), np.uint8)
    places = np.array([[0, len(text), 0, len(plain)]], np.int64)
    return {"content": plain.tobytes()} if decompress_ranges(text, places, plain) else None


def _their_snappy(path: str) -> Values:
    text = Path(path).read_bytes()
    with pa.BufferReader(text):
        plain = pa.Codec("snappy").decompress(text, len(_CONTENT)).to_pybytes()
    size = shift = 0
    for byte in text:  # Arrow takes less for as much
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size != len(_CONTENT):
        raise LibraryError(str(size))
    return {"content": plain}


SNAPPY = Format(
    "snappy",
    ".snappy",
    [pa.Codec("snappy").compress(_CONTENT).to_pybytes()],
    changed,
    _snappy,
    _their_snappy,
)


def _picture_bases() -> list[bytes]:
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    bases = []
    for options in ({"format": "JPEG"}, {"format": "PNG"}, {"format": "JPEG", "progressive": True}):
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, **options)
        bases.append(target.getvalue())
    return bases


def _picture(path: str) -> Values | None:
    encoded = np.frombuffer(Path(path).read_bytes(), np.uint8)
    into = np.zeros((8, 8, 3), np.uint8)
    return {"pixels": into} if decode_crop(encoded, CropSampler(8, 8), into) else None


PICTURE = Format("picture", ".jpg", _picture_bases(), changed, _picture)


def _text_bases() -> list[bytes]:
    row = "\t".join(["1", *map(str, range(13)), *(f"{number:08x}" for number in range(26))])
    return [f"{row}\n{row}\n{row}\n\n".encode(), b"\xef\xbb\xbf" + f"{row}\r\n{row}".encode()]


def _text(path: str) -> Values:
    found = []
    for chunk in cut_all(spans_of(find_files(path), 0, 1), 64):
        part = TextPart(chunk, CRITEO)
        loaded = part.parse(part.fetch())
        if loaded.bad:
            raise part.fault(loaded.first_bad)
        assert len(loaded.columns["label"]) == part.rows
        found.append(part.rows)
    return {"rows": sum(found)}


TEXT = Format("text", ".tsv", _text_bases(), changed, _text)


def _listed(path: str) -> Values:
    return {"files": [file.url for file in find_files(path)]}


MANIFEST = Format(
    "manifest", ".manifest", [b"/etc/hostname\n# none\n/etc/passwd\n"], changed, _listed
)

FORMATS: Final = (
    PARQUET,
    ARROW,
    TFRECORD,
    NPY,
    GZIP,
    ZSTD,
    SNAPPY,
    PICTURE,
    TEXT,
    MANIFEST,
)


def as_json(outcome: Outcome) -> str:
    """Return what came of some mutations, for a person."""
    return json.dumps(vars(outcome), indent=1)
