"""What do columns cost to read, and how far is that from text in tf.data?

Two questions, rows per CPU second, everything in one process and in turns, files in the page
cache:

- a click log converted to Parquet, Arrow and records of fixed width, into the same tensors as
  from text (checked by sums over all bits), batches of 8192 rows;
- the test that HybridBackend published for its Parquet reader: batches of 20,000 rows of 200
  columns, each a tensor, against `TextLineDataset.batch(...).map(decode_csv)`. As published, they
  are 64-bit integers below 100, in files as pandas writes them (dictionaries, Snappy). Beside it
  stand the same columns in Arrow files, and what pyarrow needs to decode the Parquet ones and do
  nothing with them.

Opening the files is part of what is measured in the first; in the second both data sets are made
once, because a step is what was published.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import eai_notebook  # noqa: F401, I001 -- as on a group's ranks it comes before pyarrow
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import tensorflow as tf
from _harness import finish, say
from _input import Contest, checksum, count, same

from eai_notebook import io
from eai_notebook.datasets.click_logs import criteo as make

BATCH = 8192
WIDE_ROWS, WIDE_COLUMNS = 20_000, 200
WIDE_FILES = 10
WIDE_VALUES = 100
WIDE_PASSES = 5
"""Over the files in one reading: what was published is a step, not the first one."""
FORMATS: tuple[Any, ...] = ("parquet", "arrow", "binary")


def write_wide(folder: Path) -> None:
    """Write files of whole numbers, the same ones as text and as Parquet."""
    rng = np.random.default_rng(0)
    for number in range(WIDE_FILES):
        values = rng.integers(0, WIDE_VALUES, (WIDE_COLUMNS, WIDE_ROWS))
        names = [f"c{column}" for column in range(WIDE_COLUMNS)]
        table = pa.table(dict(zip(names, values, strict=True)))
        options = pa.csv.WriteOptions(include_header=False)
        pa.csv.write_csv(table, folder / f"{number}.csv", options)
        pq.write_table(table, folder / f"{number}.parquet")
        with pa.ipc.new_file(str(folder / f"{number}.arrow"), table.schema) as file:
            file.write_table(table)


def wide_text(files: list[str]) -> Any:
    """The baseline of the published test, with reading ahead."""
    defaults = [tf.constant([0], tf.int64)] * WIDE_COLUMNS
    lines = tf.data.TextLineDataset(files, buffer_size=1 << 20).batch(WIDE_ROWS)
    columns = lines.map(
        lambda batch: tuple(tf.io.decode_csv(batch, defaults)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return columns.prefetch(tf.data.AUTOTUNE)


def decoded_rows(files: list[str]) -> int:
    """Decode files as often as the others read them, from memory, and leave it at that."""
    rows = 0
    for memory in [pa.py_buffer(Path(file).read_bytes()) for file in files]:
        metadata = pq.read_metadata(pa.BufferReader(memory))
        for _ in range(WIDE_PASSES):
            opened = pq.ParquetFile(pa.BufferReader(memory), metadata=metadata)
            rows += opened.read_row_group(0, use_threads=False).num_rows
    return rows


def rows_and_sum(batches: Any) -> tuple[int, int]:
    """Return the rows of batches of many columns, and the sum of all values."""
    rows = total = 0
    for batch in batches:
        columns = list(batch.values()) if isinstance(batch, dict) else list(batch)
        rows += int(columns[0].shape[0])
        total += sum(int(column.numpy().sum()) for column in columns)
    return rows, total


def wide_rows(batches: Any) -> int:
    """Read all batches of many columns some times, and return the rows."""
    rows = 0
    for _ in range(WIDE_PASSES):
        for batch in batches:
            columns = list(batch.values()) if isinstance(batch, dict) else batch
            rows += int(columns[0].shape[0])
    return rows


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        say(f"making {options.rows:,} rows")
        make(Path(home) / "data", options.rows, 8)
        files = sorted(str(path) for path in (Path(home) / "data").glob("*.tsv"))
        sizes = {}
        for to in FORMATS:
            sizes[to] = io.convert(files, Path(home) / to, to=to).size
        wide = Path(home) / "wide"
        wide.mkdir()
        write_wide(wide)
        text, parquet, ipc = (
            sorted(map(str, wide.glob(f"*.{kind}"))) for kind in ("csv", "parquet", "arrow")
        )

        def opened(to: str, *, shuffle: bool = False) -> io.InputData:
            schema = {} if to == "binary" else {"schema": io.CRITEO}
            folder = Path(home) / to
            data: io.InputData = getattr(io, to)(
                folder, BATCH, shuffle=shuffle, shard=False, **schema
            )
            return data

        plain = io.criteo(files, BATCH, shuffle=False, shard=False)
        sums = [checksum(plain), *(checksum(opened(to)) for to in FORMATS)]
        same(sums)
        baseline = wide_text(text)
        columns = io.parquet(parquet, WIDE_ROWS, shuffle=False, shard=False)
        as_they_lie = io.arrow(ipc, WIDE_ROWS, shuffle=False, shard=False)
        assert rows_and_sum(baseline) == rows_and_sum(columns) == rows_and_sum(as_they_lie)
        say(f"all tensors agree: {sums[0]}")
        contest = Contest(
            {
                "parquet": lambda: count(opened("parquet")),
                "arrow": lambda: count(opened("arrow")),
                "binary": lambda: count(opened("binary")),
                "parquet_again": lambda: count(opened("parquet")),
                "parquet_mixed": lambda: count(opened("parquet", shuffle=True)),
                "arrow_mixed": lambda: count(opened("arrow", shuffle=True)),
                "wide_text": lambda: wide_rows(baseline),
                "wide_parquet": lambda: wide_rows(columns),
                "wide_arrow": lambda: wide_rows(as_they_lie),
                "wide_decoded": lambda: decoded_rows(parquet),
            }
        )
        contest.run(options.rounds)
    rates = {name: contest.rate(name) for name in contest.readers}
    ratios = {
        "hb_ratio": contest.ratio("wide_parquet", "wide_text"),
        "hb_arrow_ratio": contest.ratio("wide_arrow", "wide_text"),
        "hb_decoded_ratio": contest.ratio("wide_decoded", "wide_text"),
        "same_twice": contest.ratio("parquet", "parquet_again"),
    }
    summary = {
        "parquet_rows_per_cpu_s": round(1e6 * rates["parquet"]["median"]),
        "ipc_rows_per_cpu_s": round(1e6 * rates["arrow"]["median"]),
        "binary_rows_per_cpu_s": round(1e6 * rates["binary"]["median"]),
        **{name: round(one["median"], 3) for name, one in ratios.items()},
        "parquet_mixed_rows_per_cpu_s": round(1e6 * rates["parquet_mixed"]["median"]),
    }
    details = {
        "checksum": sums[0],
        "bytes_a_row": {to: size / options.rows for to, size in sizes.items()},
        "ratios": ratios,
        "readers": contest.details(),
    }
    finish("input_columnar", summary, details)


if __name__ == "__main__":
    main()
