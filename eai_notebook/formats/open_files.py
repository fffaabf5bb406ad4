"""Options of all readers, and `open_files`, the path from file pattern to data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from eai_notebook import collective
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
        shuffle: Mix the rows, in another order each epoch; True unless told otherwise.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` at a bad row, or ``"skip"`` it and count.
        max_skipped: The share of this rank's rows that may be left out.
        uneven: ``"drop"``, ``"repeat"`` or ``"pad"`` what does not fill a batch everywhere.
        readers: Parts that are fetched or parsed at once, or ``"auto"``.
        queue: Batches kept ready, or ``"auto"``.
        shard: False to read all rows on this rank, to the last one.
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
    """Return the batches of this rank's share of some files.

    Args:
        pattern: The files, as `find_files` takes them.
        suffixes: Which files of a folder are meant.
        batch_size: Rows in each of this rank's batches.
        describe: Makes a rank's source of the files, the rank and the number of ranks.
        options: See `Options`.

    Raises:
        EaiError: No such file, an option without meaning, or not enough rows for one step.
    """
    checked = {"shuffle", "seed", "shard"}
    check_options(batch_size, **{k: v for k, v in options.items() if k not in checked})  # type: ignore[arg-type]
    files = find_files(pattern, suffixes)
    collective.ensure_formed()
    rank, size = (collective.rank(), collective.size()) if options.get("shard", True) else (0, 1)
    return open_batches(describe(files, rank, size), batch_size, **options)
