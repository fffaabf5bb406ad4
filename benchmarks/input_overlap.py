"""How much of slow storage does a training step see?

A step takes 50 ms on a device (it sleeps: the processors are the input's). Batches of 8192
Criteo rows come from local files, and from S3's interface with 20 or 50 ms a request and
50 MB/s a stream; exposed is what the step waits for its batch, as a share of its length.
Ours is compared with a plain loop over pyarrow's streams and its CSV
reader, and with tf.data: its best idiom for local text, and ranges fetched by parallel maps
for S3. All take turns, in random order; ours also runs against itself. The first batch of a
run is not counted, nor is it hidden: ``start_s``.

`link_share`: the rate at which an infinitely fast consumer gets its rows, over a link of
60 MB/s that all streams share, as a share of it.

    python benchmarks/input_overlap.py
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import _harness as harness
import numpy as np
import tensorflow as tf
from _storage import serving
from pyarrow import csv, fs

from eai_notebook import io
from eai_notebook.datasets.click_logs import criteo as generate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH: Final = 8192
STEP_S: Final = 0.05
STREAM: Final = 50e6
WIDE: Final = 1e9
LINK: Final = 60e6
FIELDS: Final = io.CRITEO.fields
INTEGERS: Final = len(io.CRITEO.integers)
NAMES: Final = ["label", *io.CRITEO.integers, *io.CRITEO.categorical]


def ours(files: list[str], endpoint: str | None) -> Iterator[Any]:
    """Open with all defaults."""
    use(endpoint)
    return iter(io.criteo(files, BATCH))


def naive(files: list[str], endpoint: str | None) -> Iterator[Any]:
    """Read and parse when a batch is asked for."""
    client: Any = client_of(endpoint)
    for name in files:
        with client.open_input_stream(name.removeprefix("s3://")) as stream:
            text = csv.read_csv(
                stream,
                read_options=csv.ReadOptions(column_names=NAMES),
                parse_options=csv.ParseOptions(delimiter="\t"),
            )
        for begin in range(0, len(text) - BATCH + 1, BATCH):
            rows = text.slice(begin, BATCH)
            numbers = [np.nan_to_num(rows[name].to_numpy()) for name in io.CRITEO.integers]
            ids = [
                np.array([hash(value) % 1000 for value in rows[name].to_pylist()], np.int32)
                for name in io.CRITEO.categorical
            ]
            yield np.stack(numbers, 1).astype(np.float32), np.stack(ids, 1), rows["label"]


def tf_data(files: list[str], endpoint: str | None) -> Iterator[Any]:
    """The best idiom for text: whole batches of lines are decoded at once."""
    if endpoint is None:
        lines = tf.data.Dataset.from_tensor_slices(files).interleave(
            lambda name: tf.data.TextLineDataset(name).batch(BATCH, drop_remainder=True),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=False,
        )
    else:
        client: Any = client_of(endpoint)

        def text_of(name: bytes) -> np.ndarray:
            with client.open_input_file(name.decode().removeprefix("s3://")) as stream:
                return np.array(stream.read())

        lines = (
            tf.data.Dataset.from_tensor_slices(files)
            .map(
                lambda name: tf.numpy_function(text_of, [name], tf.string),
                num_parallel_calls=4,
                deterministic=False,
            )
            .map(
                lambda text: tf.strings.split(tf.ensure_shape(text, []), "\n")[:-1],
                tf.data.AUTOTUNE,
            )
            .flat_map(
                lambda rows: tf.data.Dataset.from_tensor_slices(rows).batch(
                    BATCH, drop_remainder=True
                )
            )
        )
    return iter(lines.map(decoded, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def decoded(lines: Any) -> Any:
    """Make numbers of a batch of lines."""
    defaults: list[Any] = [[0.0]] * (1 + INTEGERS) + [[""]] * (FIELDS - 1 - INTEGERS)
    fields = tf.io.decode_csv(lines, defaults, field_delim="\t", use_quote_delim=False)
    numbers = tf.stack(fields[1 : 1 + INTEGERS], 1)
    numbers = tf.sign(numbers) * tf.math.log1p(tf.abs(numbers))
    ids = [tf.strings.to_hash_bucket_fast(field, 1000) for field in fields[1 + INTEGERS :]]
    return (numbers, tf.stack(ids, 1)), fields[0][:, None]


def use(endpoint: str | None) -> None:
    """Have S3's clients go to a server."""
    from eai_notebook.io.sources import storage

    storage._remote.cache_clear()  # noqa: SLF001 - a process usually has one endpoint
    if endpoint is not None:
        os.environ["AWS_ENDPOINT_URL"] = endpoint


def client_of(endpoint: str | None) -> Any:
    """Return pyarrow's client of a server, or of this host."""
    if endpoint is None:
        return fs.LocalFileSystem()
    return fs.S3FileSystem(endpoint_override=endpoint.removeprefix("http://"), scheme="http")


def exposed(batches: Iterator[Any], steps: int) -> tuple[float, float, int]:
    """Return the share of steps spent waiting, seconds to the first batch, and steps made."""
    began = time.perf_counter()
    next(batches)
    start = time.perf_counter() - began
    waited = 0.0
    made = 0
    for _ in range(steps):
        time.sleep(STEP_S)
        asked = time.perf_counter()
        if next(batches, None) is None:
            break
        waited += time.perf_counter() - asked
        made += 1
    return waited / (waited + made * STEP_S), start, made


def link_share(folder: Path, copies: int, epochs: int) -> list[float]:
    """Return the share of the link's rate that a consumer gets, for some epochs."""
    shares = []
    with serving(folder, copies, 0.02, STREAM, LINK) as endpoint:
        use(endpoint)
        files = remote(folder, copies)
        data = io.criteo(files, BATCH)
        size = sum(path.stat().st_size for path in folder.glob("train-*.tsv")) * copies
        for _ in range(epochs):
            began = time.perf_counter()
            rows = sum(len(label) for _, label in data)
            passed = time.perf_counter() - began
            shares.append(size * rows / data.rows / passed / LINK)
    return shares


def remote(folder: Path, copies: int) -> list[str]:
    """Return the URLs of all files."""
    names = sorted(path.name for path in folder.glob("train-*.tsv"))
    return [f"s3://logs/{copy}/{name}" for copy in range(copies) for name in names]


def main() -> None:
    """Run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "one"}
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    folder = Path(tempfile.mkdtemp()) / "data"
    generate(folder, rows=args.rows, files=8, seed=0)
    local = [str(path) for path in sorted(folder.glob("train-*.tsv"))] * args.copies
    found: defaultdict[str, list[tuple[float, float, int]]] = defaultdict(list)
    with (
        serving(folder, args.copies, 0.02, STREAM, WIDE) as near,
        serving(folder, args.copies, 0.05, STREAM, WIDE) as far,
    ):
        there = remote(folder, args.copies)
        runs: dict[str, Callable[[], Iterator[Any]]] = {
            "ours local": partial(ours, local, None),
            "ours local again": partial(ours, local, None),
            "tf.data local": partial(tf_data, local, None),
            "naive local": partial(naive, local, None),
            **{
                f"{name} s3 {ms} ms": partial(read, there, endpoint)
                for (name, read), (ms, endpoint) in itertools.product(
                    [("ours", ours), ("tf.data", tf_data), ("naive", naive)],
                    [(20, near), (50, far)],
                )
            },
        }
        rng = random.Random(0)
        for number in range(args.rounds):
            for name in rng.sample(list(runs), len(runs)):
                # A reader that waits in each step needs fewer steps.
                steps = args.steps // 5 if name.startswith("naive") else args.steps
                found[name].append(exposed(runs[name](), steps))
                harness.say(f"{number} {name}: {100 * found[name][-1][0]:.2f} % {found[name][-1]}")
    shares = link_share(folder, args.copies, 3)
    pct = {
        name: 100 * float(np.median([share for share, _, _ in all_]))
        for name, all_ in found.items()
    }
    summary = {
        "exposed_pct_local": round(pct["ours local"], 3),
        "exposed_pct_remote": round(max(pct["ours s3 20 ms"], pct["ours s3 50 ms"]), 3),
        "naive_exposed_pct_remote": round(min(pct["naive s3 20 ms"], pct["naive s3 50 ms"]), 1),
        "link_share": round(float(np.median(shares)), 3),
    }
    details = {
        "exposed_pct": pct,
        "interval": {
            name: harness.bootstrap_interval([100 * share for share, _, _ in all_])
            for name, all_ in found.items()
        },
        "start_s": {
            name: float(np.median([start for _, start, _ in all_])) for name, all_ in found.items()
        },
        "steps": {name: [made for _, _, made in all_] for name, all_ in found.items()},
        "link_share": shares,
    }
    harness.finish("input_overlap", summary, details)


if __name__ == "__main__":
    main()
