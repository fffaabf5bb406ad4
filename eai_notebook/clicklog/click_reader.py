"""`criteo`: read click logs in text form, a shard of the rows on each rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.clicklog import text_parser
from eai_notebook.clicklog.click_schema import CRITEO, ClickSchema
from eai_notebook.clicklog.text_part import TextPart, spec_of
from eai_notebook.collective.reading_rank import reading_rank
from eai_notebook.io.opens_again import opens_again
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.byte_ranges import cut_all, spans_of
from eai_notebook.io.pipeline.open_batches import check_options, open_batches
from eai_notebook.io.sources.find import Pattern, find_files

if TYPE_CHECKING:
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.pipeline.epoch_plan import OnError, Size, Uneven


@opens_again
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

    Each rank reads an equal number of bytes; all ranks together read every row exactly once. All
    ranks have the same number of steps, so no rank waits for one that has finished. In a group,
    all ranks must call this together.

    Args:
        pattern: A glob, a folder, a file, a manifest, or a list of files; paths or URLs, see
            `eai_notebook.io.sources.find.find_files`. Files compressed by gzip, zstd or bzip2
            are decompressed when they are opened.
        batch_size: Rows in each of this rank's batches.
        shuffle: Shuffle the rows, in another order each epoch: chunks of about 1 MiB are read in
            random order, and the rows of 16 chunks at a time are shuffled.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` to stop at a bad row, ``"skip"`` to skip bad rows, count them by
            file and report them.
        max_skipped: The share of this rank's rows that may be skipped; more is an error.
        uneven: ``"drop"``, ``"repeat"`` or ``"pad"`` rows that do not fill a batch on every rank,
            see `eai_notebook.io.pipeline.open_batches.open_batches`.
        readers: Chunks that are fetched or parsed in parallel, or ``"auto"``.
        queue: Batches that are prepared ahead, or ``"auto"``.
        shard: False to read all rows on this rank, to evaluate; the last batch may be smaller.
        schema: The columns and their hash buckets.

    Returns:
        Batches of ``({"numbers": float32 [batch, 13], "ids": int32 [batch, 26]},
        float32 [batch, 1])``, a `tf.data.Dataset` that plain Python can iterate.

    Raises:
        EaiError: No such file or not enough rows for one step; while reading, a bad row, which
            `InputData.error` keeps.
    """
    check_options(batch_size, on_error, uneven, max_skipped, readers, queue)
    files = find_files(pattern)
    text_parser.warm_up(schema)
    rank, size = reading_rank(shard=shard)
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
