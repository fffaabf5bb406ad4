"""Each hand-written decoder against a slow reference, on inputs that Hypothesis generates."""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click_log_files import expected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from eai_notebook.clicklog.click_schema import CRITEO
from eai_notebook.clicklog.row_errors import row_fault
from eai_notebook.clicklog.text_parser import parse
from eai_notebook.compiled.swar import PADDING
from eai_notebook.formats.arrow_ipc.arrow_footer import blocks_of, rows_of
from eai_notebook.formats.parquet.numeric_columns import decode_columns, same_type_columns
from eai_notebook.formats.parquet.snappy import decompress_ranges
from eai_notebook.formats.tfrecord import example_kernels
from eai_notebook.formats.tfrecord.example_writer import to_records
from eai_notebook.formats.tfrecord.feature_readers import Features
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from pathlib import Path

QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# ------------------------------------------------------------------------------------ Snappy

COMPRESSIBLE = st.lists(
    st.tuples(st.binary(max_size=90), st.integers(1, 40)).map(lambda pair: pair[0] * pair[1]),
    max_size=5,
).map(b"".join)


def decompressed(data: bytes, size: int) -> bytes | None:
    target = np.empty(size, np.uint8)
    ranges = np.array([[0, len(data), 0, size]], np.int64)
    good = decompress_ranges(np.frombuffer(data, np.uint8), ranges, target)
    return target.tobytes() if good else None


@QUICK
@given(COMPRESSIBLE)
def test_snappy_restores_what_arrow_compresses(content: bytes) -> None:
    assert decompressed(pa.compress(content, "snappy", asbytes=True), len(content)) == content


@QUICK
@given(COMPRESSIBLE, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3))
def test_damaged_snappy_is_refused_or_read_as_arrow_reads_it(
    content: bytes, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(pa.compress(content, "snappy", asbytes=True))
    for index, value in damage:
        data[index % len(data)] = value
    found = decompressed(bytes(data), len(content))
    if found is not None:
        size = len(content)
        assert found == pa.decompress(
            bytes(data), decompressed_size=size, codec="snappy", asbytes=True
        )


# ----------------------------------------------------------------------------------- Parquet

COLUMN_TYPES = (pa.int32(), pa.int64(), pa.float32(), pa.float64())


@st.composite
def numeric_columns(draw: st.DrawFn) -> tuple[pa.Table, dict[str, Any]]:
    """Draw a table of numeric columns, and options to write it."""
    rows = draw(st.integers(1, 200))
    columns = {}
    for number in range(draw(st.integers(1, 3))):
        distinct = draw(st.sampled_from([1, 2, 7, 300]))
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        values = np.repeat(rng.integers(-1000, 1000, distinct), draw(st.integers(1, 20)))
        kind = draw(st.sampled_from(COLUMN_TYPES))
        share = draw(st.sampled_from([0.0, 0.1, 1.0]))
        mask = rng.random(rows) < share
        data = np.resize(values, rows).astype(kind.to_pandas_dtype())
        columns[f"c{number}"] = pa.array(data, kind, mask=mask if share else None)
    options = {
        "compression": draw(st.sampled_from(["none", "snappy", "gzip", "zstd", "brotli"])),
        "use_dictionary": draw(st.booleans()),
        "data_page_size": draw(st.sampled_from([100, 1 << 20])),
        "row_group_size": draw(st.sampled_from([7, 1000])),
    }
    return pa.table(columns), options


@QUICK
@given(numeric_columns())
def test_parquet_columns_are_decoded_as_arrow_decodes_them(
    drawn: tuple[pa.Table, dict[str, Any]],
) -> None:
    table, options = drawn
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    memory = np.frombuffer(sink.getvalue(), np.uint8)
    file = pq.ParquetFile(sink)
    types = {field.name: np.dtype(field.type.to_pandas_dtype()) for field in table.schema}
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        begins: dict[str, int | None] = {}
        for index in range(group.num_columns):
            chunk = group.column(index)
            first = chunk.dictionary_page_offset or chunk.data_page_offset
            begins[chunk.path_in_schema] = min(first, chunk.data_page_offset)
        found: dict[str, Any] = {}
        for columns in same_type_columns(group, file.metadata.schema, types, begins):
            found |= decode_columns(memory, columns, group.num_rows)
        reference = file.read_row_group(number)
        assert sorted(found) == sorted(table.column_names)
        for name, column in found.items():
            arrow = column.as_arrow(table.schema.field(name).type)
            arrow.validate(full=True)
            assert arrow.equals(reference[name].combine_chunks())


# --------------------------------------------------------------------------------- Arrow IPC


@QUICK
@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=5),
    compression=st.sampled_from([None, "lz4", "zstd"]),
    legacy=st.booleans(),
    text=st.booleans(),
)
def test_arrow_footers_have_the_batches_that_arrow_finds(
    *, sizes: list[int], compression: str | None, legacy: bool, text: bool, tmp_path: Path
) -> None:
    kinds = {"x": pa.int64(), **({"text": pa.string()} if text else {})}
    schema = pa.schema(list(kinds.items()))
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.arrow"  # (a new path: footers are cached)
    options = ipc.IpcWriteOptions(compression=compression, use_legacy_format=legacy)
    with ipc.new_file(str(path), schema, options=options) as writer:
        for size in sizes:
            columns = [pa.array(range(size)), pa.array(["abc"] * size)][: len(kinds)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    (file,) = find_files(path, frozenset({".arrow"}))
    reference = ipc.open_file(str(path))
    assert len(blocks_of(file).batches) == reference.num_record_batches == len(sizes)
    counts = [reference.get_batch(number).num_rows for number in range(len(sizes))]
    assert [rows_of(file, number) for number in range(len(sizes))] == counts == sizes
    assert not blocks_of(file).dictionaries


# ---------------------------------------------------------------------- TFRecord and Example

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)
NAMES = ("a", "b", "a_long_name_of_a_feature")
VALUES = st.one_of(
    st.lists(st.one_of(st.integers(-3, 300), INT64), max_size=3),
    st.lists(FLOAT32, max_size=3),
    st.lists(st.binary(max_size=20), max_size=3),
)


def crc32c(data: bytes) -> int:
    """Compute CRC-32C bit by bit."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Return a TFRecord, with checksums of the slow implementation."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


@QUICK
@given(st.lists(st.dictionaries(st.sampled_from([*NAMES, "other"]), VALUES), max_size=4))
def test_examples_are_parsed_as_protobuf_parses_them(rows: list[dict[str, list[Any]]]) -> None:
    from tensorflow import train

    messages = []
    for row in rows:
        features = {}
        for name, values in row.items():
            if values and isinstance(values[0], bytes):
                features[name] = train.Feature(bytes_list=train.BytesList(value=values))
            elif values and isinstance(values[0], float):
                features[name] = train.Feature(float_list=train.FloatList(value=values))
            else:
                features[name] = train.Feature(int64_list=train.Int64List(value=values))
        messages.append(train.Example(features=train.Features(feature=features)))
    records = b"".join(record(message.SerializeToString()) for message in messages)
    data = np.frombuffer(records + bytes(PADDING + 16), np.uint8)
    assert example_kernels.count_records(data, len(records), len(records)) == (
        len(rows),
        len(records),
        0,
    )
    wanted = Features(NAMES, (2, 2, 2))
    found = wanted.find(data[: len(records) + 16], len(rows))
    for number, message in enumerate(messages):
        counts = []
        for index, name in enumerate(NAMES):
            feature = message.features.feature.get(name, train.Feature())
            kind = feature.WhichOneof("kind")
            values = list(getattr(feature, kind).value) if kind else []
            counts.append(len(values))
            kinds = {"bytes_list": 1, "float_list": 2, "int64_list": 3}
            assert found.kinds[number, index] == (kinds[str(kind)] if values else 0)
            if len(values) == 2:
                slots = found.values[number, 2 * index : 2 * index + 2]
                assert decoded(data, kind, slots) == values
        good = all(count in {0, 2} for count in counts)
        status = example_kernels.GOOD if good else example_kernels.BAD_COUNT
        assert found.status[number] == status


def decoded(data: np.ndarray, kind: str | None, slots: np.ndarray) -> list[Any]:
    """Return the values in the slots of a feature."""
    if kind == "int64_list":
        return list(slots.tolist())
    if kind == "float_list":
        return list(slots.astype(np.uint32).view(np.float32).tolist())
    pairs = [(packed >> 32, packed & 0xFFFFFFFF) for packed in slots.tolist()]
    return [data[offset : offset + length].tobytes() for offset, length in pairs]


@QUICK
@given(st.lists(st.lists(INT64.filter(lambda value: value != -(1 << 63)), min_size=2, max_size=2)))
def test_written_examples_are_what_protobuf_reads(rows: list[list[int]]) -> None:
    from tensorflow import train

    values = np.array(rows, np.int64).reshape(-1, 2)
    data = to_records(values, ["x", "a_long_name_of_a_feature"]).tobytes()
    offset = 0
    for row in rows:
        (length,) = struct.unpack_from("<Q", data, offset)
        body = data[offset + 12 : offset + 12 + length]
        assert data[offset : offset + 16 + length] == record(body)
        features = train.Example.FromString(body).features.feature
        assert [list(features[name].int64_list.value) for name in sorted(features)[::-1]] == [
            [value] for value in row
        ]
        offset += 16 + length
    assert offset == len(data)


# ------------------------------------------------------------------------------ delimited text

INTEGERS = st.one_of(st.just(""), INT64.map(str), st.text("0123456789-. x", max_size=22))
HEXADECIMAL = st.one_of(
    st.just(""),
    st.integers(0, (1 << 32) - 1).map("{:08x}".format),
    st.text("0123456789abcdefABCDEFg", min_size=7, max_size=9),
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw a line of a click log; about half of them have a fault."""
    label = draw(st.sampled_from(["0", "1", "0", "1", "0", "1", "2", ""]))
    numbers = ["7"] * 13
    for index in draw(st.lists(st.integers(0, 12), max_size=2)):
        numbers[index] = draw(INTEGERS)
    names = ["0a1b2c3d"] * 26
    for index in draw(st.lists(st.integers(0, 25), max_size=2)):
        names[index] = draw(HEXADECIMAL)
    fields = [label, *numbers, *names]
    return "\t".join(fields[: draw(st.sampled_from([40, 40, 40, 40, 39, 1]))])


@QUICK
@given(st.lists(lines(), min_size=1, max_size=4))
def test_lines_are_parsed_as_the_slow_parser_parses_them(rows: list[str]) -> None:
    text = "\n".join(rows) + "\n"
    padded = np.frombuffer(text.encode() + bytes(PADDING), np.uint8).copy()
    result = parse(padded, len(text), CRITEO, len(rows))
    good = [row for row in rows if row_fault(row, CRITEO) == "cannot be read"]
    begins = np.cumsum([0, *(len(row) + 1 for row in rows)]).tolist()
    assert result.bad == tuple(
        begin for begin, row in zip(begins, rows, strict=False) if row not in good
    )
    assert len(result.rows) == len(good)
    for index, row in enumerate(good):
        label, numbers, ids = expected(row)
        assert result.rows.labels[index, 0] == label
        assert result.rows.ids[index].tolist() == ids
        assert result.rows.numbers[index].tolist() == pytest.approx(numbers, rel=1e-6)
        assert not any(map(math.isnan, numbers))
