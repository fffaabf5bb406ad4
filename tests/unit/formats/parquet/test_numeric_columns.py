"""Numbers decoded without Arrow are those that Arrow decodes; what cannot be is left to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from expected_errors import raises_code

from eai_notebook import io
from eai_notebook.formats.parquet.numeric_columns import (
    SameTypeColumns,
    decode_columns,
    same_type_columns,
)
from eai_notebook.formats.parquet.parquet_reader import ParquetPart
from eai_notebook.io.memory.alignment import is_aligned

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.formats.parquet.numeric_columns import NumericColumn

TYPES = (np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)


def decoded_columns(path: Path, memory: bytes | None = None) -> list[dict[str, NumericColumn]]:
    """Return the columns decoded here of each row group; `memory` replaces the file's bytes."""
    data_bytes = np.frombuffer(path.read_bytes() if memory is None else memory, np.uint8)
    metadata = pq.read_metadata(path)
    types = {
        field.name: np.dtype(field.type.to_pandas_dtype())
        for field in metadata.schema.to_arrow_schema()
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    }
    groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        begins: dict[str, int | None] = {}
        for index in range(group.num_columns):
            column = group.column(index)
            first = column.dictionary_page_offset or column.data_page_offset
            begins[column.path_in_schema] = min(first, column.data_page_offset)
        found: dict[str, NumericColumn] = {}
        for columns in same_type_columns(group, metadata.schema, types, begins):
            found |= decode_columns(data_bytes, columns, group.num_rows)
        groups.append(found)
    return groups


def same(path: Path, names: list[str]) -> None:
    """Check that the columns decoded here are `names`, with the values that Arrow sees."""
    groups = decoded_columns(path)
    file = pq.ParquetFile(path)
    assert len(groups) == file.num_row_groups > 0
    for number, found in enumerate(groups):
        assert sorted(found) == sorted(names)
        table = file.read_row_group(number)
        for name in names:
            ours = found[name].as_arrow(table[name].type)
            ours.validate(full=True)
            assert ours.equals(table[name].combine_chunks())
            assert found[name].nulls == ours.null_count == table[name].null_count


def numbers(rows: int, values: int, dtype: type, seed: int = 0) -> np.ndarray:
    """Return some of `values` different numbers, partly one after the other and partly mixed."""
    rng = np.random.default_rng(seed)
    known: np.ndarray = rng.permutation(1 << 20)[:values].astype(dtype)
    indices = rng.integers(0, values, rows)
    indices[: rows // 3] = np.sort(indices[: rows // 3])
    return known[indices]


@pytest.mark.parametrize("values", [1, 2, 3, 100, 256, 257, 5000, 70_000])
@pytest.mark.parametrize("nullable", [True, False])
def test_numbers_of_any_type_and_variety(values: int, *, nullable: bool, tmp_path: Path) -> None:
    arrays = {kind.__name__: numbers(80_001, values, kind) for kind in TYPES}
    fields = [pa.field(name, pa.array(one).type, nullable) for name, one in arrays.items()]
    table = pa.table(arrays, schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50_000, data_page_size=10_000)
    same(tmp_path / "a.parquet", list(arrays))


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999, 1.0])
def test_nulls_anywhere(share: float, *, dictionary: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            f"{np.dtype(kind)} {name}": pa.array(numbers(9001, 300, kind), mask=mask)
            for kind in TYPES
            for name, mask in {
                "anywhere": rng.random(9001) < share,
                "at the end": np.arange(9001) >= 9001 * (1 - share),
                "at the begin": np.arange(9001) < 9001 * share,
                "in stretches": np.arange(9001) // 71 % 9 < 9 * share,
                "nowhere": np.zeros(9001, np.bool_),
            }.items()
        }
    )
    # Pages of 7 rows begin at any bit.
    for options in ({}, {"data_page_size": 9, "write_batch_size": 7}):
        pq.write_table(
            table, tmp_path / "a.parquet", use_dictionary=dictionary, row_group_size=5000, **options
        )
        same(tmp_path / "a.parquet", table.column_names)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64, 4099])
def test_rows_packed_in_any_way(
    compression: str, *, dictionary: bool, rows: int, tmp_path: Path
) -> None:
    table = pa.table({kind.__name__: numbers(rows, 50, kind) for kind in TYPES})
    options: dict[str, Any] = {"compression": compression, "use_dictionary": dictionary}
    pq.write_table(table, tmp_path / "a.parquet", **options)
    same(tmp_path / "a.parquet", table.column_names)


def test_a_dictionary_that_was_given_up_on_the_way(tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(0).permutation(60_000)})
    pq.write_table(table, tmp_path / "a.parquet", dictionary_pagesize_limit=100_000)
    assert "PLAIN" in pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0).encodings
    same(tmp_path / "a.parquet", ["x"])


def test_columns_lie_side_by_side_where_tensorflow_wants_them(tmp_path: Path) -> None:
    table = pa.table({f"c{index}": numbers(1003, 9, np.int32, index) for index in range(20)})
    pq.write_table(table, tmp_path / "a.parquet")
    (found,) = decoded_columns(tmp_path / "a.parquet")
    assert all(is_aligned(column.values) for column in found.values())
    ranges = [column.values.ctypes.data for column in found.values()]
    assert set(np.diff(ranges).tolist()) == {1008 * 4}


STRANGE: dict[str, tuple[pa.Array, dict[str, Any]]] = {
    "differences": (
        pa.array(range(1000)),
        {"use_dictionary": False, "column_encoding": {"x": "DELTA_BINARY_PACKED"}},
    ),
    "split bytes": (
        pa.array(np.arange(1000.0)),
        {"use_dictionary": False, "column_encoding": {"x": "BYTE_STREAM_SPLIT"}},
    ),
    "pages of the second kind": (pa.array(range(1000)), {"data_page_version": "2.0"}),
    "small integers": (pa.array(np.arange(1000, dtype=np.int16)), {}),
    "another codec": (pa.array(range(1000)), {"compression": "lz4"}),
    "vectors": (pa.array([[1, 2]] * 1000, pa.list_(pa.int64(), 2)), {}),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_stored_in_another_way_is_left_to_arrow(
    strange: tuple[pa.Array, dict[str, Any]], tmp_path: Path
) -> None:
    array, options = strange
    table = pa.table({"x": array, "plain": np.arange(len(array)), "data_bytes": ["a"] * len(array)})
    if "column_encoding" not in options:
        options = {**options, "use_dictionary": ["plain"]}
    pq.write_table(table, tmp_path / "a.parquet", **options)
    assert all("x" not in found for found in decoded_columns(tmp_path / "a.parquet"))
    batches = list(io.parquet(tmp_path, 100, shuffle=False, shard=False))
    got = np.concatenate([batch["x"].numpy() for batch in batches])
    np.testing.assert_array_equal(got, np.array(array.to_pylist()))
    plain = np.concatenate([batch["plain"].numpy() for batch in batches])
    np.testing.assert_array_equal(plain, np.arange(len(array)))


def test_features_of_numbers_and_others_and_rows_within_a_row_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {f"n{index}": rng.integers(0, 99, 3000) for index in range(30)}
        | {"some": pa.array(rng.random(3000), mask=rng.random(3000) < 0.5)}
        | {"word": [f"w{index}" for index in range(3000)], "label": rng.random(3000)}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    columns = {"two": ["n3", "n7"], "one": ["n5"], "some": ["some"], "word": ["word"]}
    data = io.parquet(tmp_path, 700, columns=columns, label="label", shuffle=False, shard=False)
    second = data.plan.source.parts[1]
    assert isinstance(second, ParquetPart)
    # As ranks have them that share a row group out.
    for begin, end in ((0, 1000), (17, 1000), (0, 333), (333, 666)):
        part = dataclasses.replace(second, begin=begin, end=end)
        loaded = part.parse(part.fetch()).columns
        rows = table.slice(1000 + begin, end - begin)
        np.testing.assert_array_equal(loaded["one"], rows["n5"])
        np.testing.assert_array_equal(loaded["some"], rows["some"].fill_null(np.nan))
        np.testing.assert_array_equal(loaded["two"][:, 0], rows["n3"])
        np.testing.assert_array_equal(loaded["two"][:, 1], rows["n7"])
        np.testing.assert_array_equal(loaded["label"][:, 0], rows["label"])
        assert [word.decode() for word in loaded["word"]] == rows["word"].to_pylist()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_damage_anywhere_is_noticed_or_does_no_harm(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({f"c{index}": numbers(500, 40, np.int64, index) for index in range(4)})
    pq.write_table(table, path, compression=compression, data_page_size=700)
    whole = path.read_bytes()
    end = sum(
        pq.read_metadata(path).row_group(0).column(index).total_compressed_size
        for index in range(4)
    )
    rng = np.random.default_rng(1)
    noticed = 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for index in rng.integers(4, 4 + end, rng.integers(1, 4)):
            damaged[index] = rng.integers(256)
        (found,) = decoded_columns(path, bytes(damaged))
        assert not found or all(len(found[name].values) == 500 for name in table.column_names)
        noticed += not found
    assert 300 < noticed < 1500
    for cut in (5, 50, end):
        assert decoded_columns(path, whole[:cut]) == [{}]


def test_other_numbers_of_rows_that_contradict_the_footer_are_noticed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": np.arange(1000)}), tmp_path / "a.parquet")
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    begin = column.dictionary_page_offset
    end = begin + column.total_compressed_size
    memory = np.fromfile(tmp_path / "a.parquet", np.uint8)

    def described(*values: int) -> SameTypeColumns:
        names = tuple(f"column {index}" for index in range(len(values)))
        ranges = np.array([[begin, end, count, 1] for count in values])
        size = column.total_uncompressed_size * len(values)
        return SameTypeColumns(names, np.dtype(np.int64), "SNAPPY", ranges, size)

    for values in (0, 999, 1000, 1001):
        for rows in (1, 999, 1000, 1001):
            assert bool(decode_columns(memory, described(values), rows)) == (values == rows == 1000)
    assert len(decode_columns(memory, described(1000, 1000), 1000)) == 2
    for columns in ((0, 1000), (1000, 0), (1000, 0, 1000)):
        assert not decode_columns(memory, described(*columns), 1000)
    assert not decode_columns(memory, dataclasses.replace(described(1000), size=5000), 1000)


def test_a_row_group_without_rows_is_read(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(50)})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for some in (table[:0], table, table[:0], table):
            writer.write_table(some)
    data = io.parquet(tmp_path, 10, shuffle=False, shard=False)
    got = np.concatenate([batch["x"].numpy() for batch in data])
    np.testing.assert_array_equal(got, [*range(50)] * 2)


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.arange(5000) % 7}), path)
    data_bytes = bytearray(path.read_bytes())
    data_bytes[4:40] = bytes(36)
    path.write_bytes(data_bytes)
    data = io.parquet(path, 100, shuffle=False, shard=False)
    with raises_code("parquet-damaged", "a.parquet row group 0"):
        list(data)
