"""Does reading click logs cost a sixth of what the best of tf.data costs?

Rows per CPU second, of text against three pipelines that users write, and of TFRecord files
against the tuned one, all in one process and in turns: the features are 13 numbers, transformed,
and 26 hashed ids, in batches of 8192 rows, not mixed, files in the page cache. Ours counts the
rows when it opens the files; that is part of what is measured. The baselines hash with
TensorFlow's own functions. That the tensors are right is checked apart from that, by sums over
all their bits: TensorFlow reads the files, and the twin of our hash in its operations
(`eai_notebook.io.features`) makes the features.

The slow ones read fewer rows in a pass. One of the contestants is ours a second time: how far the
two lie apart is what the figures are worth.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from _harness import finish, say
from _input import Contest, checksum, count, same

from eai_notebook import io
from eai_notebook.datasets.click_logs import criteo as make

BATCH = 8192
FILES = 16
SCHEMA = io.CRITEO
INTEGERS, CATEGORICAL = list(SCHEMA.integers), list(SCHEMA.categorical)
NAMES = ["label", *INTEGERS, *CATEGORICAL]
NOT_A_NUMBER = float("nan")
DEFAULTS = [tf.constant([0.0])] + [tf.constant([NOT_A_NUMBER])] * 13 + [tf.constant([""])] * 26
ABSENT = -(1 << 62)
AUTOTUNE = tf.data.AUTOTUNE


def numbers_of(integers: Any) -> Any:
    """Transform integers as floats, as one would write it."""
    size = tf.sign(integers) * tf.math.log1p(tf.abs(integers))
    return tf.where(tf.math.is_nan(integers), SCHEMA.missing_integer, size)


def features(columns: list[Any], axis: int) -> tuple[dict[str, Any], Any]:
    """Make what a model sees from the columns of a batch (`axis` 1) or the values of a row (0)."""
    ids = [
        tf.where(
            text == "", 0, tf.cast(tf.strings.to_hash_bucket_fast(text, buckets - 1) + 1, tf.int32)
        )
        for text, buckets in zip(columns[14:], SCHEMA.buckets, strict=True)
    ]
    made = {"numbers": numbers_of(tf.stack(columns[1:14], axis)), "ids": tf.stack(ids, axis)}
    return made, tf.expand_dims(columns[0], axis)


def decode(lines: Any) -> Any:
    """Split lines into columns."""
    return tf.io.decode_csv(lines, DEFAULTS, field_delim="\t", use_quote_delim=False)


def naive(files: list[str]) -> Any:
    """Row by row, as tutorials do it."""
    rows = tf.data.TextLineDataset(files).map(lambda line: features(decode(line), 0))
    return rows.batch(BATCH).prefetch(1)


def make_csv(files: list[str]) -> Any:
    """With the function that is made for it, tuned."""
    batches = tf.data.experimental.make_csv_dataset(
        files,
        BATCH,
        column_names=NAMES,
        column_defaults=DEFAULTS,
        field_delim="\t",
        use_quote_delim=False,
        header=False,
        num_epochs=1,
        shuffle=False,
        num_parallel_reads=2,
        sloppy=True,
    )
    made = batches.map(
        lambda row: features([row[name] for name in NAMES], 1),
        num_parallel_calls=AUTOTUNE,
        deterministic=False,
    )
    return made.prefetch(AUTOTUNE)


def best(files: list[str], then: Any = lambda columns: features(columns, 1)) -> Any:
    """Batches of lines from several files at once, each parsed as a whole."""
    lines = tf.data.Dataset.from_tensor_slices(files).interleave(
        lambda file: tf.data.TextLineDataset(file, buffer_size=1 << 20).batch(BATCH),
        cycle_length=2,
        num_parallel_calls=AUTOTUNE,
        deterministic=False,
    )
    made = lines.map(
        lambda batch: then(decode(batch)), num_parallel_calls=AUTOTUNE, deterministic=False
    )
    return made.prefetch(AUTOTUNE)


def parse_examples(files: list[str]) -> Any:
    """TFRecord files: batches of records from several files at once, parsed together."""
    wanted = {"label": tf.io.FixedLenFeature((), tf.int64)}
    wanted |= {name: tf.io.FixedLenFeature((), tf.int64, ABSENT) for name in INTEGERS + CATEGORICAL}

    def made(records: Any) -> tuple[dict[str, Any], Any]:
        row = tf.io.parse_example(records, wanted)
        integers = tf.stack([row[name] for name in INTEGERS], 1)
        floats = tf.where(integers == ABSENT, NOT_A_NUMBER, tf.cast(integers, tf.float32))
        ids = tf.stack([row[name] for name in CATEGORICAL], 1)
        buckets = tf.constant(SCHEMA.buckets, tf.int64)
        hashed = tf.where(ids == ABSENT, 0, tf.cast(ids % (buckets - 1) + 1, tf.int32))
        label = tf.cast(tf.expand_dims(row["label"], 1), tf.float32)
        return {"numbers": numbers_of(floats), "ids": hashed}, label

    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        lambda file: tf.data.TFRecordDataset(file, buffer_size=1 << 20).batch(BATCH),
        cycle_length=2,
        num_parallel_calls=AUTOTUNE,
        deterministic=False,
    )
    parsed = records.map(made, num_parallel_calls=AUTOTUNE, deterministic=False)
    return parsed.prefetch(AUTOTUNE)


def as_text(files: list[str]) -> Any:
    """What TensorFlow itself reads, with our features in its operations."""
    integers = [tf.constant([0.0])] + [tf.constant([""])] * 39
    twin = io.features(SCHEMA)

    def made(lines: Any) -> tuple[Any, Any]:
        columns = tf.io.decode_csv(lines, integers, field_delim="\t", use_quote_delim=False)
        return twin(dict(zip(NAMES[1:], columns[1:], strict=True))), columns[0][:, None]

    return tf.data.TextLineDataset(files).batch(BATCH).map(made, num_parallel_calls=AUTOTUNE)


def ours(files: list[str], **options: Any) -> io.InputData:
    """Return the same by this project."""
    return io.criteo(files, BATCH, **{"shuffle": False, "shard": False, **options})


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "data"
        say(f"making {options.rows:,} rows")
        make(folder, options.rows, FILES)
        files = sorted(str(path) for path in folder.glob("*.tsv"))
        io.convert(files, Path(home) / "records", to="tfrecord")
        records = sorted(str(path) for path in (Path(home) / "records").iterdir())
        few, some = files[:1], files[:2]

        def by_records() -> io.InputData:
            return io.tfrecord(records, BATCH, schema=SCHEMA, shuffle=False, shard=False)

        sums = [checksum(ours(files)), checksum(by_records()), checksum(as_text(files))]
        same(sums)
        say(f"all tensors agree: {sums[0]}")
        graphs = {
            "naive": naive(few),
            "make_csv": make_csv(some),
            "best_idiom": best(files),
            "parse_example": parse_examples(records),
        }
        contest = Contest(
            {
                "ours": lambda: count(ours(files)),
                "naive": lambda: count(graphs["naive"]),
                "make_csv": lambda: count(graphs["make_csv"]),
                "best_idiom": lambda: count(graphs["best_idiom"]),
                "ours_again": lambda: count(ours(files)),
                "ours_mixed": lambda: count(ours(files, shuffle=True)),
                "parse_example": lambda: count(graphs["parse_example"]),
                "ours_tfrecord": lambda: count(by_records()),
            }
        )
        contest.run(options.rounds)
    ratios = {
        "vs_best_idiom": contest.ratio("ours", "best_idiom"),
        "vs_make_csv": contest.ratio("ours", "make_csv"),
        "vs_naive": contest.ratio("ours", "naive"),
        "tfrecord_ratio": contest.ratio("ours_tfrecord", "parse_example"),
        "same_twice": contest.ratio("ours", "ours_again"),
    }
    summary = {
        "rows_per_cpu_s": round(1e6 * contest.rate("ours")["median"]),
        **{name: round(one["median"], 3) for name, one in ratios.items()},
        "mixed_rows_per_cpu_s": round(1e6 * contest.rate("ours_mixed")["median"]),
        "tfrecord_rows_per_cpu_s": round(1e6 * contest.rate("ours_tfrecord")["median"]),
    }
    details = {"checksum": sums[0], "ratios": ratios, "readers": contest.details()}
    finish("input_tsv", summary, details)


if __name__ == "__main__":
    main()
