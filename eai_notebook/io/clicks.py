"""Open click logs for training: share them out, count them, agree on the steps."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.io import epoch, parse
from eai_notebook.io.dataset import ClickData
from eai_notebook.io.epoch import Plan
from eai_notebook.io.explain import bad_row
from eai_notebook.io.load import OnError, load_all
from eai_notebook.io.ranges import Chunk, cut, find_files, share
from eai_notebook.io.schema import CRITEO, ClickSchema

if TYPE_CHECKING:
    from pathlib import Path

Pattern = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def criteo(
    pattern: Pattern,
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    on_error: OnError = "raise",
    shard: bool = True,
    schema: ClickSchema = CRITEO,
) -> ClickData:
    """Open Criteo click logs as this rank's batches, ready for `fit`.

    Every rank reads an equal part of the bytes, and all ranks together every row exactly
    once; all take the same number of steps, so that no rank waits for one that has ended.
    In a group, all ranks must call this together.

    Args:
        pattern: A glob, a folder, a file, or a list of files; plain text.
        batch_size: Rows in each of this rank's batches.
        shuffle: Mix the rows, in another order each epoch: the chunks of about 1 MiB are
            drawn in random order, and the rows of 16 of them at a time are mixed.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` to stop at a bad row, ``"skip"`` to leave bad rows out and
            count them, which parses everything once beforehand.
        shard: False to read all rows on this rank, alone and to the last one (the last
            batch may be smaller): for measuring on held-out rows.
        schema: The columns and their hash buckets.

    Returns:
        Batches of ``({"numbers": float32 [batch, 13], "ids": int32 [batch, 26]},
        float32 [batch, 1])``, a `tf.data.Dataset` that plain Python can iterate.

    Raises:
        EaiError: No such file, not enough rows for one step, or a bad row; the latter
            while reading, where `ClickData.error` keeps it.
    """
    if batch_size < 1:
        raise EaiError(f"batch_size is {batch_size!r}", "give a whole number of at least 1")
    if on_error not in {"raise", "skip"}:
        raise EaiError(f"on_error is {on_error!r}", 'give "raise" or "skip"')
    files = find_files(pattern)
    parse.warm_up(schema)
    epoch.warm_up()
    collective.ensure_formed()
    rank, size = (collective.rank(), collective.size()) if shard else (0, 1)
    chunks = [chunk for span in share(files, rank, size) for chunk in cut(span)]
    skipped = _count_bad(chunks, schema) if on_error == "skip" else Counter()
    rows = sum(chunk.lines for chunk in chunks) - sum(skipped.values())
    counts = _Counts.of_all_ranks(rows, files, together=shard)
    steps = counts.steps(batch_size, whole=not shard)
    if shard:
        counts.say_dropped(steps * batch_size)
    plan = Plan(chunks, schema, batch_size, steps, shuffle, seed, rank, on_error)
    return ClickData(plan, rows, skipped)


@dataclass(frozen=True)
class _Counts:
    """Rows on each rank."""

    rows: tuple[int, ...]
    files: Sequence[Path]

    @classmethod
    def of_all_ranks(cls, rows: int, files: Sequence[Path], *, together: bool) -> _Counts:
        if not together or collective.size() == 1:
            return cls((rows,), files)
        seen = sum(path.stat().st_size for path in files)
        table = collective.gather_numpy(np.array([rows, seen], np.int64))
        for other, size in enumerate(table[:, 1].tolist()):
            if size != table[0, 1]:
                raise EaiError(
                    f"rank 0 sees {table[0, 1]:,} bytes of input, rank {other} sees {size:,}",
                    "give all hosts the same files, completely written",
                )
        return cls(tuple(table[:, 0].tolist()), files)

    def steps(self, batch_size: int, *, whole: bool) -> int:
        """Return the steps every rank can take; with `whole`, a smaller last one too."""
        fewest = min(self.rows)
        steps = -(-fewest // batch_size) if whole else fewest // batch_size
        if steps == 0:
            raise EaiError(
                f"rank {self.rows.index(fewest)} has {fewest} rows of {sum(self.rows)} in "
                f"{len(self.files)} files, fewer than one batch of {batch_size}",
                "take a smaller batch_size, fewer ranks, or more data",
            )
        return steps

    def say_dropped(self, used: int) -> None:
        """Tell the user once, from rank 0, what an epoch leaves out."""
        total = sum(self.rows)
        dropped = total - used * len(self.rows)
        if dropped and collective.rank() == 0:
            sys.stdout.write(
                f"{dropped:,} of {total:,} rows do not fill a batch on every rank and are "
                f"left out of each epoch ({100 * dropped / total:.1f} %)\n"
            )


def _count_bad(chunks: Sequence[Chunk], schema: ClickSchema) -> Mapping[str, int]:
    """Count the bad rows of each file, by parsing it: only then are the steps known."""
    skipped: Counter[str] = Counter()
    lines = 0
    first: EaiError | None = None
    for chunk in chunks:
        bad = load_all(chunk, schema).bad
        lines += chunk.lines
        if bad:
            skipped[str(chunk.path)] += len(bad)
            first = first or bad_row(chunk.path, chunk.begin + bad[0], schema)
    if first is not None and skipped.total() == lines:
        raise EaiError(f"all {lines} rows are bad; the first: {first.what}", "check the format")
    for path, count in skipped.items():
        sys.stdout.write(f"{path}: {count:,} bad rows left out\n")
    return skipped
