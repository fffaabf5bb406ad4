"""`criteo`: read click logs in text form; rows are shared out over the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook import collective
from eai_notebook.clicklog import text_parser
from eai_notebook.clicklog.click_schema import CRITEO, ClickSchema
from eai_notebook.clicklog.text_part import TextPart, spec_of
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.byte_ranges import cut_all, spans_of
from eai_notebook.io.pipeline.open_batches import check_options, open_batches
from eai_notebook.io.sources.find import Pattern, find_files

if TYPE_CHECKING:
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.pipeline.epoch_plan import OnError, Size, Uneven


def criteo(  # noqa: PLR0913 - options, all but the first two by name
    pattern: Pattern,
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    on_error: OnError = "raise",
    max_skipped: float = 0.01,
    uneven: Uneven = "drop",
    readers: Size = "auto",
    queue: Size = "auto",
    shard: bool = True,
    schema: ClickSchema = CRITEO,
) -> InputData:
    """Open Criteo click logs as this rank's batches, ready for `fit`.

    Every rank reads an equal part of the bytes, and all ranks together every row exactly
    once; all take the same number of steps, so that no rank waits for one that has ended.
    In a group, all ranks must call this together.

    Args:
        pattern: A glob, a folder, a file, a manifest, or a list of files; paths or URLs,
            see `eai_notebook.io.sources.find.find_files`; plain, or packed by gzip, zstd
            or bzip2, which are unpacked when they are opened.
        batch_size: Rows in each of this rank's batches.
        shuffle: Mix the rows, in another order each epoch: the chunks of about 1 MiB are
            drawn in random order, and the rows of 16 of them at a time are mixed.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` to stop at a bad row, ``"skip"`` to leave bad rows out, count
            them by file and say so.
        max_skipped: The share of this rank's rows that may be left out before it is an
            error after all.
        uneven: What becomes of rows that do not fill a batch on every rank: ``"drop"``,
            ``"repeat"`` or ``"pad"``, see `eai_notebook.io.pipeline.open_batches.open_batches`.
        readers: Chunks that are fetched or parsed at once, or ``"auto"``.
        queue: Batches kept ready, or ``"auto"``.
        shard: False to read all rows on this rank, alone and to the last one (the last
            batch may be smaller): for measuring on held-out rows.
        schema: The columns and their hash buckets.

    Returns:
        Batches of ``({"numbers": float32 [batch, 13], "ids": int32 [batch, 26]},
        float32 [batch, 1])``, a `tf.data.Dataset` that plain Python can iterate.

    Raises:
        EaiError: No such file, not enough rows for one step, or a bad row; the latter
            while reading, where `InputData.error` keeps it.
    """
    check_options(batch_size, on_error, uneven, max_skipped, readers, queue)
    files = find_files(pattern)
    text_parser.warm_up(schema)
    collective.ensure_formed()
    rank, size = (collective.rank(), collective.size()) if shard else (0, 1)
    chunks = cut_all(spans_of(files, rank, size))
    source = Source(
        name=schema.name,
        parts=[TextPart(chunk, schema) for chunk in chunks],
        spec=spec_of(schema),
        files=len(files),
        total_bytes=sum(file.size for file in files),
    )
    return open_batches(
        source,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        on_error=on_error,
        max_skipped=max_skipped,
        uneven=uneven,
        readers=readers,
        queue=queue,
        shard=shard,
    )
