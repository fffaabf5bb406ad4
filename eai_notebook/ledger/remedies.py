"""Remedies for a loss: at most three that apply to this run.

The most promising comes first. None is offered that is in use already, and where something
that would decide it is unknown, it is offered in words that say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook.ledger.formatting import amount, count
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eai_notebook.ledger.context import Context
    from eai_notebook.ledger.cores import Shortage

MOST: Final = 3

LITTLE: Final = 256e3
"""An exchange of fewer bytes takes as long as it takes to agree on it, whatever its format."""

MANY: Final = 1e7
"""Parameters from which on most are likely to be rows of tables."""

MOMENTS: Final = ("Adam", "AdamW", "Nadam", "Adamax", "Ftrl", "RMSprop", "Adadelta", "Lion")
"""Optimizers that keep, and rewrite, state as large as the weights."""


def for_input(context: Context, ranks: Iterable[int]) -> tuple[str, ...]:
    """Return what helps against waiting for batches on some ranks."""
    ranks = list(ranks)
    known = [context.input[rank] for rank in ranks if rank in context.input]
    readers = context.readers()
    if readers is None:
        return (
            "`dataset.prefetch(tf.data.AUTOTUNE)`, if the data is not read ahead yet",
            "`num_parallel_calls=tf.data.AUTOTUNE` in its `map`",
            "`.cache()` if a rank's share fits into memory",
        )
    stage = input_waits.largest_stage(known)
    more = f"more readers: `readers={2 * readers}` (now {readers})"
    if stage == "fetch":
        return (more, "files on storage that is nearer", "compressed or binary files: less to read")
    if stage == "parse":
        convert = "`eai-notebook convert` the files once: Parquet costs less to parse than text"
        return (convert, more)
    if stage == "shuffle":
        return ("a smaller `shuffle`", more)
    return (more, "a larger `batch_size`: fewer batches to hand over")


def for_waiting(
    context: Context, rank: int | None, cause: str | None, samples: dict[int, float]
) -> tuple[str, ...]:
    """Return what helps where ranks wait for `rank`, or for each other if it is None.

    ``samples`` are in each rank's batch.
    """
    if rank is None:
        return (
            "a larger batch: chance evens out in longer steps",
            "fewer ranks than cores on each host",
        )
    where = context.hosts.get(rank)
    look = f"see what else runs on {where}" if where and not context.on_one_host else ""
    if cause == "input":
        return (*for_input(context, [rank])[:2], f"give rank {rank} an equal share of the files")
    found = []
    others = [length for other, length in samples.items() if other != rank]
    if cause == "compute" and others and samples.get(rank, 0.0) > 1.05 * max(others):
        found.append(
            f"equal batches: rank {rank} has {count(samples[rank])} samples, the others "
            f"{count(max(others))}"
        )
    if cause == "compute":
        found.append(look or f"see with `top` what else runs beside rank {rank}")
        found.append(f"compare the cores and the clock rate of rank {rank} with the others'")
    elif cause == "update":
        # All ranks apply the same gradients to as many weights.
        found.append(f"compare the optimizer of rank {rank} with the others': the work is the same")
        found.append(look or f"see with `top` what else runs beside rank {rank}")
    elif look:
        found.append(look)
    if not found:
        found.append("`%eai trace 20`: what that rank does in 20 steps, in depth")
    return tuple(found[:MOST])


def for_transfer(
    samples: float, sent: float, embeddings: float, *, wire: str | None
) -> tuple[str, ...]:
    """Return what helps where moving gradients costs most; the numbers are of a rank's step."""
    found = []
    batch = f" (now {count(samples)} samples a rank)" if samples > 0 else ""
    if embeddings > sent / 2:
        found.append("`eai.ShardedEmbedding` for the large tables: only looked-up rows travel")
    if sent > LITTLE and wire in (None, "fp32"):
        found.append(f'`wire="fp16"`: half of the {amount(sent)} a step, other rounding')
    found.append(f"a larger `batch_size`{batch}: fewer exchanges for as many rows")
    found.append("`gradient_accumulation_steps=` in the optimizer: one exchange for k batches")
    return tuple(found[:MOST])


def for_update(context: Context, embeddings: float) -> tuple[str, ...]:
    """Return what helps where applying gradients costs most."""
    found = []
    optimizer = str(context.meta.get("optimizer", ""))
    if embeddings > 0 and not context.meta.get("row_wise"):
        found.append('`row_wise="exact"` in `eai.fit`: only the rows with gradients, same results')
    if embeddings > 0 or context.meta.get("parameters", 0) > MANY:
        found.append("`eai.ShardedEmbedding` for large tables: a rank updates its own rows only")
    if optimizer in MOMENTS:
        found.append(f"SGD or Adagrad in place of {optimizer}: less state to rewrite")
    found.append("a larger `batch_size`: fewer updates for as many rows")
    return tuple(found)


def for_other(context: Context, kind: str | None, ranks: Iterable[int]) -> tuple[str, ...]:
    """Return what helps where time goes to something beside the step, of a kind of `NAMED`."""
    name = context.name_of(kind, ranks) if kind else None
    thing = f"`{name}`" if name else f"the {kind}"
    known = {
        "callback": (
            f"do the work of {thing} in every 100th batch only, or at the epoch's end",
            f"move it off the step: hand it to a thread of {thing}'s own",
        ),
        "checkpoint": ("save less often", "`checkpoint=` of `eai.fit`: each rank writes its part"),
        "iterator": (
            "`data.repeat()` with `steps_per_epoch=`: one iterator for all epochs",
            "longer epochs",
            "fewer stages in the dataset",
        ),
        "compiling": (
            "batches of one shape: `batch(n, drop_remainder=True)`",
            "pad what varies in length to a few lengths",
        ),
        "collector": ("`gc.freeze()` after setting up", "keep fewer Python objects in callbacks"),
        "section": (
            f"do the work of {thing} where the data is read ahead",
            f"do the work of {thing} in every k-th step only, or in a thread of its own",
        ),
    }
    nameless = (
        "`%eai trace 20`: what those steps do, in depth",
        "a larger `batch_size`: Python's share of a step is the same for any",
    )
    return known.get(kind or "", nameless)


def for_cores(lack: Shortage) -> tuple[str, ...]:
    """Return what helps ranks that get too little of their processors."""
    fewer = max(1, lack.cores // 2)
    found = ["end what else runs on that host, see `top`"]
    if lack.ranks > fewer:
        found.append(
            f"fewer ranks: {lack.ranks} share {lack.cores} cores, try `%eai up -n {fewer}`"
        )
    found.append("a host of their own for the ranks: `%eai up --hosts`")
    return tuple(found)
