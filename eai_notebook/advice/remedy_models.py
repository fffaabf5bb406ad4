"""Models of what each remedy does to a step: which time it acts on, and which share it saves.

A share of one means that the time goes away. Ranges come from what is known of the remedy alone:
half the bytes take half the time on the wire, but not half of the agreement before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.advice.expected_gain import Effect
from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.parts import INPUT, OTHER, TRANSFER, UPDATE
from eai_notebook.ledger.remedies import LITTLE, MOMENTS
from eai_notebook.ledger.step_schema import NAMED
from eai_notebook.ledger.virtual_shares import is_possible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eai_notebook.ledger.arrays import Floats
    from eai_notebook.ledger.facts import Facts, Finding

WHOLE: Final = Effect(1.0, 0.8, 1.0)
"""Of a time that goes away."""

PARTLY: Final = Effect(0.75, 0.5, 1.0)
"""Of a time that moves into a thread of Python's: it still needs the interpreter."""


@dataclass(frozen=True)
class Model:
    """A remedy in words, the time it acts on by step, ``[S]`` in seconds, and its effect on it.

    ``keeps_results`` is whether the training computes the same numbers with it. ``setting`` is the
    knob of a running training that it turns, and the value; None where the program must change.
    """

    words: str
    by_step: Floats
    effect: Effect
    keeps_results: bool = True
    setting: tuple[str, int] | None = None


def models(facts: Facts, finding: Finding) -> Iterator[Model]:
    """Return the remedies for a loss of which it is known what they do to a step."""
    meta = facts.context.meta
    return (model for model in _models(facts, finding) if is_possible(model.words, meta))


def _models(facts: Facts, finding: Finding) -> Iterator[Model]:
    kind = finding.cause if finding.kind == "wait_peer" else finding.kind
    rank = finding.rank
    if finding.kind == "stalls":
        return  # what a rare stall is, one must look at first
    if kind == "input":
        yield from _input(facts, rank)
    elif kind == "transfer":
        yield from _transfer(facts)
    elif kind == "update":
        yield from _update(facts, rank)
    elif kind == "other":
        yield from _other(facts, rank)
    elif kind == "compute" and rank is not None:
        yield from _unequal(facts, rank)


def _part(facts: Facts, part: int, rank: int | None) -> Floats:
    """Return a part by step: of one rank, or the mean over all."""
    ledger = facts.typical
    if rank is None:
        return mean(ledger.parts[:, :, part], axis=0)
    return np.asarray(ledger.parts[ledger.ranks.index(rank), :, part])


def _input(facts: Facts, rank: int | None) -> Iterator[Model]:
    waited = _part(facts, INPUT, rank)
    readers, rest = facts.context.readers(), mean(facts.typical.wall, axis=0) - waited
    if readers is None:
        # What is read while the step computes is not waited for.
        hidden = np.minimum(waited, rest)
        yield Model("`dataset.prefetch(tf.data.AUTOTUNE)`: read while the step runs", hidden, WHOLE)
        cached = Effect(0.9, 0.5, 1.0)  # what was read before is still handed over
        yield Model("`.cache()`, if a rank's share fits into memory", waited, cached)
        return
    # Readers that are waited for work all the time: a batch takes them a whole step.
    batch = waited + rest
    saved = batch - np.maximum(batch / 2, rest)
    words = f"twice the readers: `readers={2 * readers}` (now {readers})"
    yield Model(words, saved, Effect(0.85, 0.5, 1.0), setting=("readers", 2 * readers))
    if queue := facts.context.queue():
        words = f"twice the batches that readers queue: `queue={2 * queue}` (now {queue})"
        yield Model(words, waited, Effect(0.2, 0.0, 0.6), setting=("queue", 2 * queue))


def _transfer(facts: Facts) -> Iterator[Model]:
    ledger, exchange = facts.typical, _part(facts, TRANSFER, None)
    sent = float(mean(ledger.bytes))
    dense = sent - float(np.nan_to_num(mean(ledger.embedding_bytes)))
    if sent > LITTLE and facts.context.meta.get("wire") in (None, "fp32"):
        share = dense / sent / 2
        link = facts.context.link
        # On a link that is known, bytes take that long at least; else it may be agreement.
        known = min(1.0, dense / link / max(facts.part(TRANSFER), 1e-9)) if link else 0.0
        effect = Effect(share * (1 + known) / 2, share * known, share)
        yield Model(
            '`wire="fp16"`: half the bytes, other rounding', exchange, effect, keeps_results=False
        )
    fused = facts.context.meta.get("fused_bytes")
    if fused and dense > fused:
        # Fewer messages, each of which ranks agree on; but the first leaves later.
        megabytes = f"{4 * fused / 2**20:.3g} MB (now {fused / 2**20:.3g} MB)"
        words = f"messages of up to {megabytes}: `HOROVOD_FUSION_THRESHOLD={4 * fused}`"
        effect = Effect(0.1, 0.0, 0.3)
        yield Model(words, exchange, effect, setting=("fused_bytes", 4 * fused))
    halved = Effect(0.5, 0.35, 0.5)
    yield Model(
        "twice the `batch_size`: half as many exchanges for as many rows",
        exchange,
        halved,
        keeps_results=False,
    )
    quarter = Effect(0.75, 0.6, 0.75)
    words = "`gradient_accumulation_steps=4`: a quarter of the exchanges"
    yield Model(words, exchange, quarter, keeps_results=False)


def _update(facts: Facts, rank: int | None) -> Iterator[Model]:
    update, name = _part(facts, UPDATE, rank), str(facts.context.meta.get("optimizer", ""))
    embedded = float(np.nan_to_num(mean(facts.typical.embedding_bytes))) > 0
    if embedded and not facts.context.meta.get("row_wise"):
        # Of the tables next to nothing is left; how much of the update they were is not known.
        words = '`eai.fit(..., row_wise="exact")`: only those rows of tables that have gradients'
        yield Model(words, update, Effect(0.8, 0.3, 0.95))
    if name in MOMENTS:
        # Bytes of memory: SGD reads two arrays and writes one, Adam reads four and writes three.
        effect = Effect(4 / 7, 0.35, 0.65)
        yield Model(
            f"SGD in place of {name}: less state to rewrite", update, effect, keeps_results=False
        )
    halved = Effect(0.5, 0.4, 0.5)
    yield Model(
        "twice the `batch_size`: half as many updates for as many rows",
        update,
        halved,
        keeps_results=False,
    )


def _other(facts: Facts, rank: int | None) -> Iterator[Model]:
    ledger = facts.typical
    at = slice(None) if rank is None else [ledger.ranks.index(rank)]
    other = float(np.nansum(ledger.parts[at][:, :, OTHER]))
    for index in np.argsort(-np.nansum(ledger.named[at], axis=(0, 1)), kind="stable"):
        by_step = mean(ledger.named[at][:, :, index], axis=0)
        kind = NAMED[index]
        if not np.nansum(ledger.named[at][:, :, index]) > _WORTH * other:
            return
        name = facts.context.name_of(kind, ledger.ranks if rank is None else [rank])
        thing = f"`{name}`" if name else f"the {kind}"
        for words, effect in _NAMED_REMEDIES.get(kind, ()):
            yield Model(words.format(thing=thing), by_step, effect)


_WORTH: Final = 0.2
"""A named thing is worth a remedy from this share of `other` on."""

_NAMED_REMEDIES: Final = {
    "callback": (
        ("the work of {thing} in every 100th batch only", Effect(0.99, 0.95, 0.99)),
        ("the work of {thing} in a thread of its own", PARTLY),
    ),
    "section": (
        ("the work of {thing} where the data is read ahead", PARTLY),
        ("the work of {thing} in every 10th step only", Effect(0.9, 0.85, 0.9)),
    ),
    "checkpoint": (("half as many checkpoints", Effect(0.5, 0.45, 0.5)),),
    "iterator": (("`data.repeat()` with `steps_per_epoch=`: one iterator", WHOLE),),
    "compiling": (("batches of one shape: `batch(n, drop_remainder=True)`", WHOLE),),
    "collector": (("`gc.freeze()` after setting up", PARTLY),),
}


def _unequal(facts: Facts, rank: int) -> Iterator[Model]:
    """Yield the remedy for a rank that is late because it has more samples than the others."""
    samples, waiting = facts.samples(), facts.waiting
    others = [number for each, number in samples.items() if each != rank]
    if waiting is None or not others or samples.get(rank, 0.0) <= 1.05 * max(others):
        return
    compute = _part(facts, 1, rank)
    share = 1 - float(np.mean(list(samples.values()))) / samples[rank]
    words = (
        f"equal batches: rank {rank} has {samples[rank]:.0f} samples, the others {max(others):.0f}"
    )
    yield Model(words, compute, Effect(share, 0.8 * share, share))
