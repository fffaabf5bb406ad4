"""Files as others write them are read; damaged and crafted ones are refused with file and place."""

from __future__ import annotations

import base64
import bz2
import gzip
import io as python_io
import lzma
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from expected_errors import raises_code
from fuzzing import record
from http_server import Server
from pyarrow import ipc

from eai_notebook import io
from eai_notebook.clicklog.click_schema import ClickSchema
from eai_notebook.formats.parquet.numeric_columns import decompress_page
from eai_notebook.formats.parquet.page_headers import FIELDS, find_pages
from eai_notebook.formats.tfrecord import example_kernels
from eai_notebook.io.sources.file import File
from eai_notebook.io.sources.find import find_files
from eai_notebook.io.sources.http import check_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

WHOLE: dict[str, Any] = {"shuffle": False, "shard": False}


def rows(data: Any, name: str = "x") -> list[Any]:
    batches = [batch[0] if isinstance(batch, tuple) else batch for batch in data]
    return [one for batch in batches for one in batch[name].numpy().tolist()]


def parquet_of(table: pa.Table, path: Path, **options: Any) -> bytearray:
    target = python_io.BytesIO()
    pq.write_table(table, target, **options)
    path.write_bytes(target.getvalue())
    return bytearray(target.getvalue())


def ipc_of(table: pa.Table, path: Path, **options: Any) -> None:
    with ipc.new_file(path, table.schema, options=ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)


def example(**features: Any) -> bytes:
    from tensorflow import train

    kinds = {int: ("int64_list", train.Int64List), float: ("float_list", train.FloatList)}
    made = {}
    for name, values in features.items():
        field, kind = kinds[type(values[0])] if values else kinds[int]
        made[name] = train.Feature(**{field: kind(value=values)})
    text: bytes = train.Example(features=train.Features(feature=made)).SerializeToString()
    return text


# ---------------------------------------------------------------------------------- TFRecord


def test_a_record_whose_length_would_overflow_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    head = record(b"")[:0] + struct.pack("<Q", (1 << 63) - 1)
    from fuzzing import _masked

    whole = record(example(x=[1.0]))
    path.write_bytes(whole + head + struct.pack("<I", _masked(head)) + bytes(64))
    with raises_code("tfrecord-damaged", path, "record 2", f"byte {len(whole)}"):
        io.tfrecord(path, 1, features={"x": ("float32", (1,))})


def test_a_file_written_to_under_its_old_time_is_an_error(tmp_path: Path) -> None:
    import os

    path = tmp_path / "a.tfrecord"
    whole = bytearray(b"".join(record(example(x=[float(i)])) for i in range(100)))
    path.write_bytes(whole)
    before = path.stat()
    data = io.tfrecord(path, 10, **WHOLE)
    whole[:8] = struct.pack("<Q", 1 << 40)
    path.write_bytes(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with raises_code("file-changed", path):
        list(data)


def test_an_empty_list_writes_nothing_beyond_its_row() -> None:
    text = np.frombuffer(record(example(a=[1], z=[7])) * 4 + bytes(17), np.uint8)
    arena = np.full(12, -1, np.int64)
    example_kernels.parse_examples(
        text,
        np.frombuffer(b"az" + bytes(8), np.uint8),
        np.array([0, 1, 2], np.int64),
        np.array([0, 1, 1], np.int64),
        arena[:4].reshape(4, 1),
        np.empty((4, 2), np.uint8),
        np.empty(4, np.int64),
        np.empty(4, np.uint8),
    )
    assert arena.tolist() == [1] * 4 + [-1] * 8


@pytest.mark.parametrize(
    ("features", "wanted", "code", "facts"),
    [
        ({"x": []}, None, "features-unknown", ["record 1"]),
        ({"x": [300]}, ("uint8", ()), "row-bad", ["300", "uint8"]),
        ({"x": [-1]}, ("uint64", ()), "row-bad", ["-1", "uint64"]),
        ({"x": [2]}, ("bool", ()), "row-bad", ["2", "bool"]),
        ({"x": [1e9]}, ("float16", ()), "row-bad", ["1000000000.0", "float16"]),
        ({"x": [1]}, ("int64", (0,)), "feature-invalid", ["(0,)"]),
    ],
)
def test_what_a_type_cannot_hold_is_named(
    features: dict[str, Any], wanted: Any, code: str, facts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.tfrecord").write_bytes(record(example(**features)))
    given = None if wanted is None else {"x": wanted}
    with raises_code(code, "'x'", *facts):
        list(io.tfrecord(tmp_path / "a.tfrecord", 1, features=given, **WHOLE))


def test_compressed_records_are_unpacked_whatever_the_suffix_looks_like(tmp_path: Path) -> None:
    for number, suffix in enumerate((".gz", ".GZ")):
        text = b"".join(record(example(x=[3 * number + i])) for i in range(3))
        (tmp_path / f"{number}.tfrecord{suffix}").write_bytes(gzip.compress(text))
    assert rows(io.tfrecord(tmp_path, 2, **WHOLE)) == list(range(6))


def test_a_sequence_example_is_named(tmp_path: Path) -> None:
    from tensorflow import train

    feature = train.Feature(int64_list=train.Int64List(value=[1]))
    lists = {"s": train.FeatureList(feature=[feature])}
    text = train.SequenceExample(
        context=train.Features(feature={"x": feature}),
        feature_lists=train.FeatureLists(feature_list=lists),
    ).SerializeToString()
    (tmp_path / "a.tfrecord").write_bytes(record(text))
    for wanted, code in ((None, "tfrecord-not-example"), ({"x": ("int64", ())}, "row-bad")):
        with raises_code(code, "record 1", "SequenceExample", "map_files"):
            list(io.tfrecord(tmp_path, 1, features=wanted, **WHOLE))


# ----------------------------------------------------------------------------------- Parquet


def test_a_page_header_without_end_is_none() -> None:
    text = np.frombuffer(bytes([0x15, 0x02] * 16 + [0x05]), np.uint8)
    columns = np.array([[0, len(text), 5, 0]], np.int64)
    assert find_pages(text, columns, np.zeros((4, FIELDS), np.int64)) == -1


def test_a_footer_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = parquet_of(pa.table({"d": pa.array([1.5, None, 2.5] * 20)}), path)
    foot = len(text) - 8 - int.from_bytes(text[-8:-4], "little")
    text[bytes(text).index(b"\x02\x18\x01d", foot)] = 0  # now it is REQUIRED
    path.write_bytes(text)
    with raises_code("parquet-damaged", path, "row group 0"):
        list(io.parquet(path, 4, **WHOLE))


def test_a_bound_shorter_than_its_numbers_is_refused_as_arrow_does(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    least = b"\xbb\xaa\x11\x11"  # what is left of it, cut, reads as two fields of truth values
    numbers = np.array([np.frombuffer(least, "<f4")[0], 1, 2], "f4")
    text = bytes(parquet_of(pa.table({"x": numbers}), path, compression="none"))
    at = text.rindex(b"\x18\x04" + least)
    path.write_bytes(text[: at + 1] + b"\x02" + text[at + 2 :])
    with pytest.raises(OSError, match="end of stream"):
        pq.ParquetFile(path).read(use_threads=False)
    with raises_code("parquet-damaged", "row group 0"):
        list(io.parquet(path, 3, **WHOLE))


class _Kms(pe.KmsClient):
    def __init__(self, _config: Any) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64encode(name.encode() + key)

    def unwrap_key(self: Self, wrapped: bytes, name: str) -> bytes:
        return base64.b64decode(wrapped)[len(name) :]


@pytest.mark.parametrize("plain", [True, False])
def test_encrypted_columns_are_named_and_others_read(tmp_path: Path, *, plain: bool) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"x": [1, 2, 3], "secret": [1.5, 2.5, 3.5]})
    made = pe.CryptoFactory(_Kms).file_encryption_properties(
        pe.KmsConnectionConfig(),
        pe.EncryptionConfiguration(
            footer_key="f", column_keys={"k": ["secret"]}, plaintext_footer=plain
        ),
    )
    with pq.ParquetWriter(path, table.schema, encryption_properties=made) as out:
        out.write_table(table)
    with raises_code("parquet-encrypted", path):
        list(io.parquet(path, 3, **WHOLE))
    if plain:
        assert rows(io.parquet(path, 3, columns=["x"], **WHOLE)) == [1, 2, 3]


def test_levels_that_are_neither_0_nor_1_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = parquet_of(
        pa.table({"x": [1.5, 2.5, 3.5, 4.5]}),
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    text[bytes(text).index(b"\x02\x00\x00\x00\x08\x01") + 5] = 2
    path.write_bytes(text)
    with raises_code("parquet-damaged", path, "row group 0"):
        list(io.parquet(path, 4, **WHOLE))


@pytest.mark.parametrize("codec", ["GZIP", "ZSTD", "BROTLI"])
def test_a_page_that_holds_less_than_it_says_is_refused(codec: str) -> None:
    for length, fits in ((472, False), (480, True), (488, False)):
        packed = np.frombuffer(pa.Codec(codec.lower()).compress(bytes(length)), np.uint8)
        if fits:
            assert decompress_page(packed, codec, 480).tobytes() == bytes(480)
        else:
            with pytest.raises((pa.ArrowException, OSError)):
                decompress_page(packed, codec, 480)


@pytest.mark.parametrize("write", [pq.write_table, ipc_of])
def test_vectors_as_lists_of_one_length(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / ("a.parquet" if write is pq.write_table else "a.arrow")
    read = io.parquet if path.suffix == ".parquet" else io.arrow
    write(pa.table({"x": [[1.0, 2.0], [3.0, 4.0], [5.0, None]], "y": [[[1], [2]]] * 3}), path)
    data = read(path, 3, **WHOLE)
    assert data.element_spec["y"].shape[1:] == (2, 1)
    np.testing.assert_equal(rows(data), [[1.0, 2.0], [3.0, 4.0], [5.0, float("nan")]])
    write(pa.table({"x": pa.array([[1, 2], [3], None, [4, 5]])}), path)
    with raises_code("row-bad", path, "row 2", "'x'"):
        list(read(path, 4, **WHOLE))
    skipped = read(path, 4, missing=0, on_error="skip", max_skipped=0.5, **WHOLE)
    assert rows(skipped) == [[1, 2], [0, 0], [4, 5]]


def test_missing_fills_vectors_and_must_fit_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    fixed = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))
    parquet_of(
        pa.table({"x": fixed, "i8": pa.array([1, None, 2], pa.int8()), "text": ["a", None, "b"]}),
        path,
    )
    assert rows(io.parquet(path, 3, columns=["x"], missing=-1, **WHOLE)) == [
        [1, 2],
        [-1, -1],
        [3, -1],
    ]
    assert rows(io.parquet(path, 3, missing=0, **WHOLE), "text") == [b"a", b"", b"b"]
    for missing, code, facts in (
        (300, "missing-value-invalid", ["300", "'i8'", "int8"]),
        ({"x": 0.5}, "missing-value-invalid", ["0.5", "'x'", "int32"]),
        ({"text": 1}, "missing-value-invalid", ["'text'", "1"]),
        ({"none": 1}, "column-unknown", ["'none'"]),
    ):
        with raises_code(code, *facts):
            io.parquet(path, 3, missing=missing, **WHOLE)


def test_columns_with_similar_names_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    inner = pa.array([{"b": 100}, {"b": 101}], pa.struct([("b", pa.int32())]))
    parquet_of(pa.table({"a.b": pa.array([1, 2], pa.int32()), "a": inner, "": [5, 6]}), path)
    assert rows(io.parquet(path, 2, columns=["a.b"], **WHOLE), "a.b") == [1, 2]
    assert rows(io.parquet(path, 2, columns=[""], **WHOLE), "") == [5, 6]
    parquet_of(pa.table([[1, 2], [3, 4], [5, 6]], names=["a", "a", "x"]), path)
    assert rows(io.parquet(path, 2, columns=["x"], **WHOLE)) == [5, 6]
    with raises_code("column-repeated", path, "2 columns", "'a'"):
        io.parquet(path, 2, **WHOLE)


def test_a_column_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = parquet_of(pa.table({"qqqq": [1, 2]}), path, store_schema=False)
    path.write_bytes(bytes(text).replace(b"qqqq", b"q\xffqq"))
    with raises_code("parquet-damaged", path, "footer at byte"):
        io.parquet(path, 2, **WHOLE)


def test_arrow_can_be_asked_to_read_all_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eai_notebook.formats.parquet import parquet_reader

    calls: list[Any] = []
    real = parquet_reader._read

    def noted(*arguments: Any) -> pa.Table:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(parquet_reader, "_read", noted)
    for number, way in enumerate(("", "arrow")):
        monkeypatch.setenv("EAI_PARQUET", way)
        path = tmp_path / f"{number}.parquet"
        parquet_of(pa.table({"x": [1, None, 3]}), path)
        assert rows(io.parquet(path, 3, missing=0, **WHOLE)) == [1, 0, 3]
        assert bool(calls) == (way == "arrow")
    monkeypatch.setenv("EAI_PARQUET", "other")
    parquet_of(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with raises_code("environment-invalid", "EAI_PARQUET", "'other'"):
        list(io.parquet(tmp_path / "c.parquet", 1, **WHOLE))


# ------------------------------------------------------------------------------------- Arrow


@pytest.mark.parametrize("version", [ipc.MetadataVersion.V4, ipc.MetadataVersion.V5])
def test_arrow_files_before_format_0_15_have_all_their_rows(version: Any, tmp_path: Path) -> None:
    ipc_of(
        pa.table({"x": range(8)}),
        tmp_path / "old.arrow",
        use_legacy_format=True,
        metadata_version=version,
    )
    ipc_of(pa.table({"x": range(8, 12)}), tmp_path / "young.arrow")
    assert rows(io.arrow(tmp_path, 4, **WHOLE)) == list(range(12))


@pytest.mark.parametrize("claim", [1100, 100_000, 4 << 50])
def test_a_batch_that_claims_more_rows_is_refused(claim: int, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ipc_of(pa.table({"x": np.arange(1000)}), path)
    path.write_bytes(path.read_bytes().replace(struct.pack("<q", 1000), struct.pack("<q", claim)))
    with raises_code("arrow-damaged", path, "record batch 0"):
        list(io.arrow(path, 1000, **WHOLE))


def test_a_text_that_would_lie_far_beyond_its_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    ipc_of(pa.table({"s": ["abcdefgh"] * 1000}), path)
    text = bytearray(path.read_bytes())
    at = bytes(text).index(struct.pack("<iii", 8, 16, 24))
    far = 256 << 20
    text[at + 32 : at + 40] = struct.pack("<ii", far, far + 64)
    path.write_bytes(text)
    with raises_code("arrow-damaged"):
        list(io.arrow(path, 100, **WHOLE))


# ----------------------------------------------------------------------------- text and others


@pytest.mark.parametrize(
    ("schema", "text", "numbers"),
    [
        (ClickSchema("i", ("a", "b"), (), ()), "1\t5\t6\n0\t\t8\n", [[5, 6], [None, 8]]),
        (ClickSchema("i", ("a", "b"), (), ()), "1\t5\t\r\n0\t-7\t-8\r\n", [[5, None], [-7, -8]]),
        (ClickSchema("i", ("a",), (), ()), "\ufeff1\t5\n0\t6\n\n\r\n", [[5], [6]]),
        (ClickSchema("i", ("a",), (), ()), "1\t9223372036854775807\n0\t6", [[(1 << 63) - 1], [6]]),
        (ClickSchema("n", (), (), ()), "1\n0\n", [[], []]),
        (ClickSchema("c", (), ("c",), (10,)), "1\t0000000a\n0\t\n", [[], []]),
    ],
)
def test_click_logs_of_other_schemas(
    schema: ClickSchema, text: str, numbers: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "a.tsv").write_bytes(text.encode())
    ((features, labels),) = io.criteo(tmp_path / "a.tsv", 2, schema=schema, **WHOLE)
    wanted = [
        [-1.0 if one is None else np.sign(one) * np.log1p(abs(one)) for one in row]
        for row in numbers
    ]
    np.testing.assert_allclose(features["numbers"].numpy(), np.array(wanted), rtol=1e-6)
    assert labels.numpy().ravel().tolist() == [1, 0]


def test_a_header_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("label\ta\n1\t5\n")
    with raises_code("text-header", "a.tsv row 1", "tail -n +2"):
        list(io.criteo(tmp_path, 1, schema=ClickSchema("i", ("a",), (), ()), **WHOLE))


def test_lines_that_end_otherwise_or_never_are_named_with_a_remedy(tmp_path: Path) -> None:
    schema = ClickSchema("i", ("a",), (), ())
    (tmp_path / "a.tsv").write_text("1\t5\r0\t6\r", newline="")
    with raises_code("text-newlines", "a.tsv row 1", "tr "):
        list(io.criteo(tmp_path, 1, schema=schema, **WHOLE))
    (tmp_path / "a.tsv").write_bytes(b"1\t5\n1\t" + b"5" * (3 << 20) + b"\n")
    with raises_code("row-bad", "a.tsv row 2", "longer than"):
        list(io.criteo(tmp_path, 1, schema=schema, **WHOLE))


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (gzip.compress(b"1\t5\n" * 9, mtime=0), "compression-not-in-name", "*.gz"),
        (pa.compress(b"1\t5\n" * 9, "zstd", asbytes=True), "compression-not-in-name", "*.zst"),
        (bz2.compress(b"1\t5\n" * 9), "compression-not-in-name", "*.bz2"),
        (lzma.compress(b"1\t5\n" * 9), "text-is-binary", "xz"),
        (b"PAR1" + b"\n" * 99, "text-is-binary", "Parquet"),
        (b"1\t5\r0\t6\r", "text-newlines", "tr "),
    ],
    ids=["gzip", "zstd", "bz2", "xz", "parquet", "carriage-returns"],
)
def test_what_is_no_text_is_named_before_rows_are_missed(
    content: bytes, code: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with raises_code(code, "a.tsv", said):
        io.criteo(tmp_path, 4, schema=ClickSchema("i", ("a",), (), ()), shuffle=False)


def test_a_manifest_that_names_itself_or_is_no_text_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "a.manifest"
    listed.write_text("b.manifest\n")
    (tmp_path / "b.manifest").write_text("a.manifest\n")
    with raises_code("manifest-invalid", "a.manifest", "b.manifest"):
        find_files(listed)
    listed.write_bytes(b"a\xff\n")
    with raises_code("manifest-invalid", "a.manifest", "byte 1"):
        find_files(listed)


def test_an_npy_header_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(40, [("x", "<f4")]))
    path.write_bytes(path.read_bytes().replace(b"(40,)", b"(-4,)"))
    with raises_code("npy-invalid", path):
        io.binary(path, 1, **WHOLE)


def test_padding_without_weights_and_odd_batch_sizes_are_refused(tmp_path: Path) -> None:
    parquet_of(pa.table({"x": range(10)}), tmp_path / "a.parquet")
    with raises_code("options-conflict", "uneven", "label"):
        io.parquet(tmp_path, 4, uneven="pad")
    with raises_code("option-invalid", "batch_size", "2.0"):
        io.parquet(tmp_path, 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", ["ETag", "Last-Modified"])
def test_an_object_that_was_replaced_is_an_error(tag: str) -> None:
    mark = {"ETag": '"v1"', "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT"}[tag]
    file = File("http://host/a", 10, mark)
    answer = {tag: mark, "Content-Range": "bytes 2-5/10"}
    check_response(file, 2, 6, 206, answer)
    for code, other in (
        ("file-changed", {**answer, tag: mark.replace("1", "2")}),
        ("file-changed", {**answer, "Content-Range": "bytes 2-5/11"}),
        ("server-without-ranges", {**answer, "Content-Range": "bytes 3-6/10"}),
        ("file-changed", {**answer, "Content-Range": "bytes 2-5/9"}),
    ):
        with raises_code(code, "http://host/a"):
            check_response(file, 2, 6, 206, other)
    with raises_code("server-without-ranges", "http://host/a"):
        check_response(file, 2, 6, 200, {tag: mark})


def test_a_stream_of_a_remote_file_sees_that_it_grows() -> None:
    server = Server()
    try:
        server.files["/a.tsv"] = bytes(3 << 20)
        with find_files(server.url("/a.tsv"))[0].open() as stream:
            assert stream.read(10) == bytes(10)
            server.files["/a.tsv"] = bytes(4 << 20)
            with raises_code("file-changed", "a.tsv"):
                stream.read()
    finally:
        server.close()
