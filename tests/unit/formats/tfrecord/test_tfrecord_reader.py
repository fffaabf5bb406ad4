from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from click_log_files import write_log
from expected_errors import raises_code
from numba import njit

from eai_notebook import io
from eai_notebook.formats.tfrecord import crc32c, example_kernels
from eai_notebook.formats.tfrecord.crc32c import add_word_by_table, masked_crc
from eai_notebook.io import CRITEO

if TYPE_CHECKING:
    from pathlib import Path


def feature(values: Any) -> tf.train.Feature:
    values = values if isinstance(values, list) else [values]
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def record(features: dict[str, Any]) -> bytes:
    made = {name: feature(values) for name, values in features.items()}
    data: bytes = tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()
    return data


def write(path: Path, records: list[bytes]) -> list[int]:
    with tf.io.TFRecordWriter(str(path)) as file:
        for one in records:
            file.write(one)
    return [int(end) for end in np.cumsum([0, *(len(one) + 16 for one in records)])]


def some(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "label": int(rng.integers(0, 2)),
            "x": rng.random(3).astype(np.float32).tolist(),
            "a_rather_long_name_of_one_value": int(rng.integers(-(1 << 62), 1 << 62)),
            "small": int(rng.integers(-2, 300)),
            "one": float(np.float32(rng.random())),
            "many": rng.integers(-5, 1 << 40, 4).tolist(),
            "name": f"user {number}".encode() * (number % 40),
        }
        for number in range(count)
    ]


FIRST = {"label": ("int64", ())}
TYPES = {
    "label": tf.io.FixedLenFeature((1,), tf.int64),
    "x": tf.io.FixedLenFeature((3,), tf.float32),
    "a_rather_long_name_of_one_value": tf.io.FixedLenFeature((), tf.int64),
    "small": tf.io.FixedLenFeature((), tf.int64),
    "one": tf.io.FixedLenFeature((), tf.float32),
    "many": tf.io.FixedLenFeature((4,), tf.int64),
    "name": tf.io.FixedLenFeature((), tf.string),
}


def test_any_dense_features_are_what_tensorflow_parses(tmp_path: Path) -> None:
    rows = some(200)
    for row in rows[::3]:
        row["not_asked_for"] = [b"x" * 300, b""]
    records = [record(row) for row in rows]
    write(tmp_path / "a.tfrecord", records)
    wanted = tf.io.parse_example(records, TYPES)
    named = {
        name: ("bytes" if one.dtype == tf.string else one.dtype.name, tuple(one.shape))
        for name, one in TYPES.items()
    }
    data = io.tfrecord(tmp_path, 64, features=named, label="label", shuffle=False, shard=False)
    batches = list(data)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), wanted.pop("label"))
    for name, column in wanted.items():
        ours = np.concatenate([x[name] for x, _ in batches])
        np.testing.assert_array_equal(ours, column, strict=True)


def test_features_are_learned_from_the_first_record(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", [record(row) for row in some(5)])
    features, label = io.tfrecord(tmp_path, 5).element_spec
    assert label == tf.TensorSpec((5, 1), tf.int64)
    assert features["x"] == tf.TensorSpec((5, 3), tf.float32)
    assert features["name"] == tf.TensorSpec((5,), tf.string)


def test_values_that_are_not_packed_and_hexadecimal_text(tmp_path: Path) -> None:
    # Old writers put each value of a list on its own.
    unpacked = b"\x0a\x0b\x0a\x09\x0a\x01n\x12\x04\x1a\x02\x08\x07"
    assert tf.train.Example.FromString(unpacked).features.feature["n"].int64_list.value == [7]
    write(tmp_path / "a.tfrecord", [unpacked])
    batch = next(iter(io.tfrecord(tmp_path, 1, features={"n": ("int32", ())})))
    assert batch["n"].numpy().tolist() == [7]
    text, numbers = {"label": 1, "C1": b"68fd1e64", "C2": b""}, {"label": 1, "C1": 0x68FD1E64}
    write(tmp_path / "a.tfrecord", [record(text), record(numbers)])
    x, _ = next(iter(io.tfrecord(tmp_path, 2, schema=CRITEO, shuffle=False)))
    ids = x["ids"].numpy()
    assert ids[0].tolist() == ids[1].tolist()
    assert (ids[0, 0] > 0, ids[0, 1]) == (True, 0)


def test_a_damaged_record_is_named_by_file_number_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    begins = write(path, [record(row) for row in some(20)])
    whole = bytearray(path.read_bytes())
    whole[begins[7] + 30] ^= 1
    path.write_bytes(whole)
    with raises_code("row-bad", path, "record 8", f"byte {begins[7]}"):
        list(io.tfrecord(path, 5))
    data = io.tfrecord(path, 19, on_error="skip", max_skipped=0.1, shuffle=False)
    assert len(list(data)) == 1
    assert data.skipped == {str(path): 1}


def test_a_file_is_walked_once_and_anew_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []
    count_records = example_kernels.count_records

    def counting(text: Any, end: int, stop: int) -> Any:
        walked.extend([end] if end else [])  # (0: only to have it compiled)
        return count_records(text, end, stop)

    monkeypatch.setattr(example_kernels, "count_records", counting)
    path = tmp_path / "a.tfrecord"
    for count in (20, 30):
        write(path, [record(row) for row in some(count)])
        assert [io.tfrecord(path, 5, features=FIRST).rows for _ in range(2)] == [count, count]
    assert len(walked) == 2


@pytest.mark.parametrize("size", [1, 9, 10])
def test_whole_numbers_of_any_length_and_sign_are_read(tmp_path: Path, size: int) -> None:
    ends = [edge + step for edge in (0, *(1 << 7 * n for n in range(1, 9))) for step in (-1, 0, 1)]
    edges = [*ends, *(-end for end in ends), (1 << 63) - 1, -(1 << 63)]
    names = {"n" * size: edges}
    rows = [{name: value} for name, values in names.items() for value in values]
    write(tmp_path / "a.tfrecord", [record(row) for row in rows])
    wanted = {"n" * size: ("int64", ())}
    data = io.tfrecord(tmp_path, len(rows), features=wanted, shuffle=False)
    (batch,) = list(data)
    assert batch["n" * size].numpy().tolist() == edges


@pytest.mark.parametrize("cut", [1, 5, 13, 40])
def test_a_file_that_is_cut_off_is_refused_when_opened(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tfrecord"
    begins = write(path, [record(row) for row in some(20)])
    path.write_bytes(path.read_bytes()[: begins[19] + cut])
    with raises_code("tfrecord-damaged", path, "record 20", f"byte {begins[19]}"):
        io.tfrecord(path, 5)


def test_what_is_no_tfrecord_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as file:
        file.write(b"x" * 100)
    with raises_code("compression-not-in-name", path, "gzip", "*.gz"):
        io.tfrecord(path, 1, features={"n": ("int32", ())})
    begins = write(path, [record(row) for row in some(4)])
    whole = bytearray(path.read_bytes())
    whole[begins[2] + 2] ^= 1
    path.write_bytes(whole)
    with raises_code("tfrecord-damaged", path, f"byte {begins[2]}", "record 3"):
        io.tfrecord(path, 1)


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"x": [1.0, 2.0]}, ["'x'"]),
        ({"x": [1, 2, 3]}, ["integers", "'x'", "floats"]),
        ({"y": 1}, ["'x'", "floats"]),
        (b"\x0a\xff", ["tf.train.Example"]),
    ],
)
def test_what_is_wrong_with_a_record_is_named(tmp_path: Path, wrong: Any, facts: list[str]) -> None:
    bad = wrong if isinstance(wrong, bytes) else record(wrong)
    write(tmp_path / "a.tfrecord", [record({"x": [1.0, 2.0, 3.0]}), bad])
    with raises_code("row-bad", "record 2", *facts):
        list(io.tfrecord(tmp_path, 2, features={"x": ("float32", (3,))}))


def test_click_values_out_of_range_are_named(tmp_path: Path) -> None:
    for wrong, column in (
        ({"label": 2}, "label 2"),
        ({"I1": 1}, "'label'"),
        ({"label": 1, "I3": 1.5}, "I3"),
        ({"label": 1, "C3": 1 << 33}, "C3"),
        ({"label": 1, "C3": b"xyz"}, "C3"),
    ):
        write(tmp_path / "a.tfrecord", [record(wrong)])
        with raises_code("row-bad", "record 1", column):
            list(io.tfrecord(tmp_path, 1, schema=CRITEO))


def test_records_written_here_are_what_tensorflow_reads(tmp_path: Path) -> None:
    write_log(tmp_path / "a.tsv", range(50))
    io.convert(tmp_path / "a.tsv", tmp_path / "out", to="tfrecord")
    records = list(tf.data.TFRecordDataset(str(tmp_path / "out" / "a.tfrecord")))
    first = tf.train.Example.FromString(records[7].numpy()).features.feature
    fields = (tmp_path / "a.tsv").read_text().splitlines()[7].split("\t")
    names = ["label", *CRITEO.integers, *CRITEO.categorical]
    for name, text in zip(names, fields, strict=True):
        if not text:
            assert name not in first
            continue
        value = int(text, 16) if name.startswith("C") else int(text)
        assert list(first[name].int64_list.value) == [value]


@njit
def checksum(text: np.ndarray, end: int) -> int:
    return int(masked_crc(text, 0, end))


@njit
def added(crc: np.uint64, word: np.uint64) -> int:
    return int(add_word_by_table(crc, word))


@njit
def by_processor(crc: np.uint64, word: np.uint64) -> int:
    return int(crc32c.add_word(crc, word))


def test_checksum_is_castagnolis() -> None:
    text = np.frombuffer(b"123456789" + bytes(16), np.uint8)
    plain = 0xE3069283
    masked = (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert checksum(text, 9) == masked
    rng = np.random.default_rng(0)
    for crc, word in rng.integers(0, 1 << 63, (50, 2), np.uint64).tolist():
        pair = np.uint64(crc & 0xFFFFFFFF), np.uint64(word)
        assert added(*pair) == by_processor(*pair)
