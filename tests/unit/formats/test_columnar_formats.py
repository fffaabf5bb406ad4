from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click_log_files import row
from expected_errors import raises_code
from pyarrow import ipc

from eai_notebook import io
from eai_notebook.io import CRITEO
from eai_notebook.io.memory.alignment import is_aligned
from eai_notebook.io.pipeline.row_ranges import share_rows

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("parquet", "arrow")


def write(to: str, path: Path, table: pa.Table, rows: int = 1000, **options: Any) -> None:
    if to == "parquet":
        pq.write_table(table, path, row_group_size=rows, **options)
    else:
        with ipc.new_file(str(path), table.schema, **options) as file:
            file.write_table(table, max_chunksize=rows)


def opened(to: str, *arguments: Any, **options: Any) -> io.InputData:
    data: io.InputData = getattr(io, to)(*arguments, **options)
    return data


def click_table(rows: int, *, text: str = "string") -> pa.Table:
    fields = [row(number).split("\t") for number in range(rows)]
    columns: dict[str, Any] = {"label": pa.array([int(one[0]) for one in fields])}
    for place, name in enumerate(CRITEO.integers, 1):
        columns[name] = pa.array([int(one[place]) if one[place] else None for one in fields])
    for place, name in enumerate(CRITEO.categorical, 14):
        values = [one[place] or None for one in fields]
        if text == "int32":  # as systems store them that know no unsigned numbers
            words = [
                None if one is None else np.uint32(int(one, 16)).view(np.int32) for one in values
            ]
            columns[name] = pa.array(words, pa.int32())
        elif text == "int64":
            columns[name] = pa.array([None if one is None else int(one, 16) for one in values])
        elif text == "dictionary":
            columns[name] = pa.array(values).dictionary_encode()
        else:
            columns[name] = pa.array(values, text)
    return pa.table(columns)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("text", ["string", "large_binary", "dictionary", "int32", "int64"])
def test_click_logs_of_any_types_give_the_features_of_the_text(
    to: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "log.tsv").write_text("".join(f"{row(number)}\n" for number in range(1200)))
    options = {"compression": "zstd"} if to == "parquet" else {}
    write(to, tmp_path / f"log.{to}", click_table(1200, text=text), 501, **options)
    data = opened(to, tmp_path, 100, schema=CRITEO, shuffle=False)
    wanted = io.criteo(tmp_path / "log.tsv", 100, shuffle=False)
    for (x, y), (features, label) in zip(data, wanted, strict=True):
        np.testing.assert_array_equal(x["numbers"], features["numbers"], strict=True)
        np.testing.assert_array_equal(x["ids"], features["ids"], strict=True)
        np.testing.assert_array_equal(y, label, strict=True)


@pytest.mark.parametrize("compression", ["lz4", "zstd", None])
def test_record_batches_read_in_one_go_hold_until_they_are_features(
    compression: str | None, tmp_path: Path
) -> None:
    (tmp_path / "log.tsv").write_text("".join(f"{row(number)}\n" for number in range(1200)))
    table = click_table(1200, text="int32")
    options = {"options": ipc.IpcWriteOptions(compression=compression)}
    write("arrow", tmp_path / "log.arrow", table, 7, **options)
    for shuffle in (False, True):
        data = io.arrow(tmp_path / "log.arrow", 400, schema=CRITEO, shuffle=shuffle, readers=3)
        wanted = io.criteo(tmp_path / "log.tsv", 400, shuffle=False)
        sums = [
            sum(int(x["ids"].numpy().astype(np.int64).sum()) for x, _ in batches)
            for batches in (data, wanted)
        ]
        assert sums[0] == sums[1]


def plain_table(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    vectors = rng.random((rows, 3)).astype(np.float32)
    return pa.table(
        {
            "i32": rng.integers(-99, 99, rows).astype(np.int32),
            "f64": rng.random(rows),
            "flag": rng.integers(0, 2, rows).astype(bool),
            "when": pa.array(rng.integers(0, 1 << 40, rows), pa.timestamp("us")),
            "vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 3),
            "text": [f"é{number}" for number in range(rows)],
            "word": pa.array([f"w{number % 5}" for number in range(rows)]).dictionary_encode(),
            "label": rng.integers(0, 2, rows).astype(np.float32),
        }
    )


@pytest.mark.parametrize("to", FORMATS)
def test_columns_become_tensors_as_they_are(to: str, tmp_path: Path) -> None:
    table = plain_table(500)
    write(to, tmp_path / f"a.{to}", table.slice(0, 300), 128)
    write(to, tmp_path / f"b.{to}", table.slice(300), 128)
    for shuffle in (False, True):
        batches = list(opened(to, tmp_path, 60, shuffle=shuffle, shard=False))
        got = {name: np.concatenate([x[name] for x, _ in batches]) for name in batches[0][0]}
        got["label"] = np.concatenate([y for _, y in batches])
        order = np.argsort([int(one.decode()[1:]) for one in got["text"]])
        assert shuffle != (order.tolist() == list(range(500)))
        for name in ("i32", "f64", "flag"):
            np.testing.assert_array_equal(got[name][order], table[name].to_numpy(), strict=True)
        np.testing.assert_array_equal(got["label"][order][:, 0], table["label"].to_numpy())
        when = table["when"].cast(pa.int64()).to_numpy()
        np.testing.assert_array_equal(got["when"][order], when, strict=True)
        np.testing.assert_array_equal(got["vector"][order], table["vector"].to_pylist())
        assert [one.decode() for one in got["text"][order]] == table["text"].to_pylist()
        assert [one.decode() for one in got["word"][order]] == table["word"].to_pylist()


def test_record_batches_become_tensors_without_a_copy(tmp_path: Path) -> None:
    table = pa.table({f"c{place}": np.arange(64_000) * (place + 1) for place in range(5)})
    write("arrow", tmp_path / "a.arrow", table, 16_000)
    data = io.arrow(tmp_path, 16_000, shuffle=False, readers=3)
    for part in data.plan.source.parts_at(0):
        loaded = part.parse(part.fetch())
        assert all(is_aligned(column) for column in loaded.columns.values())
    # Batches that are kept stay what they were, whatever is read after them.
    kept = [batch for _ in range(3) for batch in data]
    for number, batch in enumerate(kept):
        first = number % 4 * 16_000
        for place in range(5):
            wanted = np.arange(first, first + 16_000) * (place + 1)
            np.testing.assert_array_equal(batch[f"c{place}"], wanted, strict=True)


def test_columns_of_one_type_stand_side_by_side(tmp_path: Path) -> None:
    table = pa.table({name: np.arange(10) * place for place, name in enumerate("abc")})
    write("parquet", tmp_path / "a.parquet", table)
    data = io.parquet(tmp_path, 10, columns={"x": ["c", "b"]}, label="a", shuffle=False)
    x, y = next(iter(data))
    assert x["x"].shape == (10, 2)
    assert x["x"].numpy()[3].tolist() == [6, 3]
    assert y.shape == (10, 1)


@pytest.mark.parametrize("to", FORMATS)
def test_nulls_are_bad_unless_something_stands_for_them(to: str, tmp_path: Path) -> None:
    vectors = pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.int32(), 2))
    table = pa.table({"n": [1, None, 3, 4], "f": [0.5, 1.5, None, 2.5], "v": vectors})
    path = tmp_path / f"a.{to}"
    write(to, path, table)
    with raises_code("row-bad", path, "row 2", "'n'", "missing="):
        list(opened(to, path, 2, columns=["n", "f"], shuffle=False))
    data = opened(to, path, 4, columns=["n", "f"], missing={"n": -1}, shuffle=False)
    batch = next(iter(data))
    assert batch["n"].numpy().tolist() == [1, -1, 3, 4]
    assert np.isnan(batch["f"].numpy()).tolist() == [False, False, True, False]
    options = {"shuffle": False, "on_error": "skip", "max_skipped": 0.5, "shard": False}
    vector = np.concatenate([x["v"] for x in opened(to, path, 1, columns=["v"], **options)])
    assert vector.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("to", FORMATS)
def test_bad_click_rows_are_named(to: str, tmp_path: Path) -> None:
    table = click_table(40)
    place = table.schema.names.index("C3")
    wrong = table.column("C3").to_pylist()
    wrong[33] = "xyz"
    table = table.set_column(place, "C3", pa.array(wrong))
    table = table.set_column(0, "label", pa.array([2, *[1] * 39]))
    write(to, tmp_path / f"a.{to}", table, 20)
    with raises_code("row-bad", "row 1", "label 2"):
        list(opened(to, tmp_path, 4, schema=CRITEO, shuffle=False))
    data = opened(to, tmp_path, 38, schema=CRITEO, shuffle=False, on_error="skip", max_skipped=0.1)
    assert len(list(data)) == 1
    assert list(data.skipped.values()) == [2]
    write(to, tmp_path / f"a.{to}", table.slice(20), 20)
    with raises_code("row-bad", "row 14", "'xyz'", "C3"):
        list(opened(to, tmp_path, 4, schema=CRITEO, shuffle=False))


@pytest.mark.parametrize("to", FORMATS)
def test_files_that_do_not_fit_are_refused(to: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{to}"
    write(to, path, pa.table({"a": [1, 2], "b": [{"x": 1}, {"x": 2}]}))
    for arguments, code, facts in (
        ({}, "column-type", ["'b'", "struct<"]),
        ({"columns": ["x"]}, "column-unknown", ["'x'", "a, b"]),
        ({"schema": CRITEO}, "column-unknown", ["'label'", "a, b"]),
        ({"schema": CRITEO, "columns": ["a"]}, "options-conflict", ["schema", "columns"]),
        ({"columns": []}, "option-invalid", [path]),
    ):
        with raises_code(code, *facts):
            opened(to, path, 1, **arguments)
    write(to, tmp_path / f"b.{to}", pa.table({"a": ["x"]}))
    with raises_code("files-differ", "b.", "'a'", "string", "int64"):
        opened(to, tmp_path, 1, columns=["a"])
    path.write_bytes(path.read_bytes()[:-9])
    with raises_code(f"{to}-damaged", path):
        opened(to, path, 1)
    path.write_bytes(bytes(range(256)))
    with raises_code(f"{to}-damaged", path):
        opened(to, path, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("most", [0, 5])
def test_shares_are_even_disjoint_and_complete(size: int, most: int) -> None:
    groups = [10, 0, 3, 41]
    shares = [share_rows(groups, rank, size, most) for rank in range(size)]
    rows = [(at.group, row) for share in shares for at in share for row in range(at.begin, at.end)]
    assert rows == [(group, row) for group, count in enumerate(groups) for row in range(count)]
    counts = [sum(at.end - at.begin for at in share) for share in shares]
    assert max(counts) - min(counts) <= 1
    assert most == 0 or max(at.end - at.begin for share in shares for at in share) <= most
