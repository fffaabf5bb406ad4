"""`open_batches`: the data set of an opened source, the last step of every reader."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, get_args

from eai_notebook.bookkeeping import say
from eai_notebook.collective.reading_rank import is_virtual, reading_rank
from eai_notebook.errors import EaiError
from eai_notebook.io.part import LABEL
from eai_notebook.io.pipeline.bad_rows import BadRows
from eai_notebook.io.pipeline.dataset import InputData
from eai_notebook.io.pipeline.epoch_plan import OnError, Plan, Size, Uneven
from eai_notebook.io.pipeline.step_agreement import RowCounts, print_step_agreement

if TYPE_CHECKING:
    from eai_notebook.io.part import Source


def check_options(
    batch_size: int,
    on_error: str = "raise",
    uneven: str = "drop",
    max_skipped: float = 0.01,
    readers: Size = "auto",
    queue: Size = "auto",
) -> None:
    """Check the options that all readers share, before files are opened.

    Raises:
        EaiError: An option has an invalid value.
    """
    size_given: Any = batch_size
    if isinstance(size_given, bool) or not isinstance(size_given, Integral) or size_given < 1:
        raise EaiError(
            f"batch_size is {batch_size!r}",
            "give a whole number of at least 1",
            code="option-invalid",
        )
    for name, value, known in (("on_error", on_error, OnError), ("uneven", uneven, Uneven)):
        if value not in get_args(known):
            choices = " or ".join(f'"{one}"' for one in get_args(known))
            raise EaiError(f"{name} is {value!r}", f"use {choices}", code="option-invalid")
    if not 0 <= max_skipped <= 1:
        raise EaiError(
            f"max_skipped is {max_skipped!r}", "give a share from 0 to 1", code="option-invalid"
        )
    sizes: dict[str, Any] = {"readers": readers, "queue": queue}
    for name, size in sizes.items():
        if size != "auto" and not (isinstance(size, int) and size >= 1):
            raise EaiError(
                f"{name} is {size!r}",
                'give "auto" or a whole number of at least 1',
                code="option-invalid",
            )


def open_batches(  # noqa: PLR0913 - options, all but the first two by name
    source: Source,
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
) -> InputData:
    """Return the batches of a rank's shard, after all ranks have agreed on the number of steps.

    In a group, all ranks must call this together, unless `shard` is False.

    Args:
        source: This rank's parts.
        batch_size: Rows in each of this rank's batches.
        shuffle: Shuffle the rows, in another order each epoch.
        seed: The same seed, epoch and number of ranks give the same order.
        on_error: ``"raise"`` to stop at a bad row, ``"skip"`` to skip bad rows, count them by
            file and report them.
        max_skipped: The share of this rank's rows that may be skipped; more is an error.
        uneven: Rows that do not fill a batch on every rank: ``"drop"`` skips them, other ones
            each epoch; ``"repeat"`` makes ranks with fewer rows read some again; ``"pad"`` adds
            rows of weight 0, so that every row counts exactly once, and batches are
            ``(features, label, weight)``.
        readers: Parts that are fetched or parsed in parallel, or ``"auto"``.
        queue: Batches that are prepared ahead, or ``"auto"``.
        shard: False to read all rows on this rank.

    Raises:
        EaiError: An option has an invalid value, padding without a label, ranks that see different
            files, or too few rows.
    """
    check_options(batch_size, on_error, uneven, max_skipped, readers, queue)
    # A virtual rank's rows are all read: its last batch may be smaller.
    whole = not shard or is_virtual()
    if uneven == "pad" and not whole and LABEL not in source.spec:
        raise EaiError(
            'uneven="pad" adds rows of weight 0, but batches without a label have no weights',
            'read the label as well, or use uneven="drop" or "repeat"; shard=False reads every row '
            "once on every rank",
            code="options-conflict",
        )
    counts = RowCounts.of_all_ranks(source, together=not whole)
    steps = counts.steps(batch_size, uneven, whole=whole)
    plan = Plan(
        source=source,
        batch_size=batch_size,
        steps=steps,
        shuffle=shuffle,
        seed=seed,
        rank=reading_rank(shard=shard).rank,
        on_error=on_error,
        max_skipped=max_skipped,
        uneven=uneven,
        whole=whole,
        readers=readers,
        queue=queue,
    )
    if not whole:
        print_step_agreement(counts.remainder_line(batch_size, steps, uneven))
    elif on_error == "skip":
        return InputData(_without_bad(plan))
    return InputData(plan)


def _without_bad(plan: Plan) -> Plan:
    """Return a plan whose steps are the batches of good rows, by parsing all rows once.

    Only needed if every row must be read exactly once.
    """
    bad = BadRows(plan)
    for index, part in enumerate(plan.source.parts):
        bad.add(index, part.parse(part.fetch()))
    for path, count in bad.by_file.items():
        say(f"{path}: {count:,} bad rows skipped")
    good = plan.source.rows - sum(bad.by_part.values())
    return replace(plan, steps=-(-good // plan.batch_size))
