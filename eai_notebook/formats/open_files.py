"""Options of all readers, and `open_files`, the path from file pattern to data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from eai_notebook.collective.reading_rank import reading_rank
from eai_notebook.io.pipeline.open_batches import check_options, open_batches
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.io.part import Source
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.pipeline.epoch_plan import OnError, Size, Uneven
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern


class Options(TypedDict, total=False):
    """How rows become batches; each as in `eai_notebook.io.pipeline.open_batches.open_batches`.

    Attributes:
        shuffle: Shuffle the rows, in another order each epoch; the default is True.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` at a bad row, or ``"skip"`` and count it.
        max_skipped: The share of this rank's rows that may be skipped, 0 to 1.
        uneven: ``"drop"``, ``"repeat"`` or ``"pad"`` the rows that do not fill a batch on every rank.
        readers: Parts that are fetched or parsed in parallel, or ``"auto"``.
        queue: Batches that are prepared ahead, or ``"auto"``.
        shard: False to read all rows on this rank.
    """

    shuffle: bool
    seed: int
    on_error: OnError
    max_skipped: float
    uneven: Uneven
    readers: Size
    queue: Size
    shard: bool


def open_files(
    pattern: Pattern,
    suffixes: frozenset[str],
    batch_size: int,
    describe: Callable[[list[File], int, int], Source],
    options: Options,
) -> InputData:
    """Find files and return the batches of this rank's shard.

    Args:
        pattern: The files, see `find_files`.
        suffixes: Suffixes of the files to read if `pattern` is a folder.
        batch_size: Rows in each of this rank's batches.
        describe: Returns a rank's source, given the files, the rank and the number of ranks.
        options: See `Options`.

    Raises:
        EaiError: No such file, an invalid option, or not enough rows for one step.
    """
    checked = {"shuffle", "seed", "shard"}
    check_options(batch_size, **{k: v for k, v in options.items() if k not in checked})  # type: ignore[arg-type]
    files = find_files(pattern, suffixes)
    rank, size = reading_rank(shard=options.get("shard", True))
    return open_batches(describe(files, rank, size), batch_size, **options)
