"""`map_files`: a user's function reads each file, in reader processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from eai_notebook.collective.reading_rank import reading_rank
from eai_notebook.formats.map_files_part import FilePart, check_alike, fields_of
from eai_notebook.io.memory.alignment import rows_in
from eai_notebook.io.opens_again import opens_again
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.open_batches import check_options, open_batches
from eai_notebook.io.pipeline.prefetch import Job
from eai_notebook.io.pipeline.reader_autotune import READERS
from eai_notebook.io.pipeline.wait_meter import WaitMeter
from eai_notebook.io.pipeline.worker_pool import ProcessLoader, WorkerPool
from eai_notebook.io.sources.decompress import share_whole
from eai_notebook.io.sources.find import Pattern, find_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.io.part import Columns, Field
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File


@opens_again
def map_files(
    pattern: Pattern,
    function: Callable[[File], Columns],
    batch_size: int,
    *,
    rows: Callable[[File], int] | None = None,
    suffixes: frozenset[str] = frozenset(),
    shard: bool = True,
    **options: Any,
) -> InputData:
    """Open files of any kind as batches of the rows that a Python function returns for each file.

    The function runs in reader processes, so it may hold the interpreter lock; a batch costs
    the training process one copy. Each file goes to one rank, balanced by size. In a group, all
    ranks must call this together.

    Args:
        pattern: The files, see `eai_notebook.io.sources.find.find_files`.
        function: Receives a file (``file.url``, ``file.size`` and ``file.open()``, a seekable
            stream also for remote files) and returns its rows: a dictionary of arrays of equal
            first dimension; ``"label"`` is the label.
        batch_size: Rows in each of this rank's batches.
        rows: Returns the number of rows of a file, if that is cheaper than calling `function`.
            Without it, `function` is called once more for each file, to count.
        suffixes: Suffixes of the files to read if `pattern` is a folder.
        shard: False to read all files on this rank.
        options: See `eai_notebook.io.pipeline.open_batches.open_batches`.

    Returns:
        Batches of ``({name: array [batch, ...]}, label)``, or of the dictionary alone if there is
        no label.

    Raises:
        EaiError: No such file, fewer files than ranks, or a function that fails.
    """
    check_options(batch_size)
    files = find_files(pattern, suffixes)
    rank, size = reading_rank(shard=shard)
    mine = [FilePart(file, function) for file in share_whole(files, rank, size)]
    known = [int(rows(part.file)) for part in mine] if rows else []
    first = next((index for index, count in enumerate(known) if count), 0)
    found = _inspect(mine[first : first + 1] if rows else mine)
    counts = known or [count for count, _ in found]
    # (A file without rows may have columns of any type.)
    spec = next((fields for count, fields in found if count), found[0][1])
    if not rows:
        for part, (count, fields) in zip(mine, found, strict=True):
            if count:
                check_alike(part.file, fields, spec)
    parts = [
        replace(part, rows=count, spec=spec)
        for part, count in zip(mine, counts, strict=True)
        if count
    ]
    source = Source(
        name=getattr(function, "__name__", "mapped"),
        parts=parts,
        spec=spec,
        files=len(files),
        total_bytes=sum(file.size for file in files),
        holds_gil=True,
    )
    return open_batches(source, batch_size, shard=shard, **options)


def _inspect(parts: Sequence[FilePart]) -> list[tuple[int, dict[str, Field]]]:
    """Call the function on each part and return the number and the fields of its rows."""
    workers = WorkerPool()
    try:
        with ThreadPoolExecutor(READERS, "eai-count") as pool:
            return list(pool.map(partial(_inspect_one, workers), parts))
    finally:
        workers.close()


def _inspect_one(workers: WorkerPool, part: FilePart) -> tuple[int, dict[str, Field]]:
    loader = ProcessLoader(WaitMeter(), workers, Event())
    try:
        columns = loader.load(Job(0, part)).columns
    finally:
        loader.close()
    return rows_in(columns), fields_of(columns)
