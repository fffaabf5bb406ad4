"""The verdict: the largest avoidable loss in one sentence, and what to do about it.

The verdict is the costliest of the losses that were found, and if none costs enough to be worth a
change, the good one: the steps compute. All numbers of a finding are mean milliseconds a step
over the same steps, so they can be added up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.core_loss import core_loss
from eai_notebook.ledger.facts import Facts, Finding
from eai_notebook.ledger.formatting import ms, percent
from eai_notebook.ledger.losses import BOUND, RULES, WORTH_NAMING
from eai_notebook.ledger.parts import COMPUTE, PARTS, TRANSFER
from eai_notebook.ledger.waiting import FEWEST_STEPS
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eai_notebook.ledger.cores import Shortage
    from eai_notebook.ledger.merge import Ledger


class Verdict(Finding):
    """The finding that matters most."""


def findings(ledger: Ledger, context: Context | None = None) -> list[Finding]:
    """Return every loss worth naming, the costliest first; empty if there is none."""
    return losses_of(Facts(ledger, context or Context()))


def losses_of(facts: Facts, least: float = WORTH_NAMING) -> list[Finding]:
    """Return the losses of at least a share of a step, the costliest first."""
    if len(facts.typical.steps) < FEWEST_STEPS:
        return []
    noticed = [finding for rule in RULES if (finding := rule(facts)) is not None]
    found = sorted(
        (each for each in noticed if each.share >= least * each.times), key=lambda each: -each.share
    )
    return _cores_or_link(facts, found)


def _cores_or_link(facts: Facts, found: list[Finding]) -> list[Finding]:
    """Return findings of which `transfer` and a lack of cores do not claim the same time.

    On ranks without cores exchanges take long, too. What a lack of cores explains of them for sure
    is not the link's doing; what it cannot explain is. Where the most costly loss is one of the
    two, and nobody can say which, the finding says that.
    """
    lack = facts.context.shortage()
    moving = next((each for each in found if each.kind == "transfer"), None)
    if lack is None or moving is None:
        return found
    least, most = core_loss(facts, lack).transfer
    length = facts.part(TRANSFER)
    if least >= length / 2:
        return [each for each in found if each.kind != "transfer"]
    if most < length / 2:
        return found
    others = [each for each in found if each.kind not in ("transfer", "cores")]
    if others and others[0].share >= moving.share:
        return others
    return [_undecided(facts, lack, least, most), *others]


def _undecided(facts: Facts, lack: Shortage, least: float, most: float) -> Finding:
    length = facts.part(TRANSFER)
    moving = f"`transfer` {ms(length)} of a {ms(facts.step)} step"
    got = percent(min(lack.share, lack.exchange))
    return Finding(
        kind="unknown",
        sentence=(
            f"undecided: {percent(length / facts.step)} of each step moves gradients, and a "
            "slow link or other processes on the cores would both explain it"
        ),
        evidence=(
            f"{moving}; a lack of cores explains {ms(least)} to {ms(most)} of it",
            f"ranks get {got} of the processor time that they could use",
        ),
        share=length / facts.step,
        tries=("end what else runs on that host, see `top`, and run a few steps again",),
        numbers={"step": 1e3 * facts.step, "transfer": 1e3 * length},
    )


def verdict(
    ledger: Ledger,
    waited: Mapping[int, Mapping[str, float]] | None = None,
    context: Context | None = None,
) -> Verdict:
    """Return what holds the run up, in one sentence, with its evidence and what to try.

    `context` is what else is known of the run, `Context.of(record.info)`; `waited` stands for
    it where only the input's sums by rank, `waits.Sums`, are. Where the loss is the input, the
    sentence goes on with the stage and its share.

    ``kind`` is ``"input"``, ``"wait_peer"``, ``"transfer"``, ``"update"``, ``"other"``,
    ``"stalls"``, ``"cores"``, ``"compute"`` where no loss is worth naming, or ``"unknown"``
    where too little was measured; a part of another package by its name. Shares are of the wall
    time of the typical steps, for stalls of all.
    """
    return verdict_of(Facts(ledger, context or Context(input=waited or {})))


def verdict_of(facts: Facts, found: list[Finding] | None = None) -> Verdict:
    """Return the verdict on a run's numbers; see `verdict`.

    ``found`` are the losses to choose from, by default all that are worth naming.
    """
    ledger, context = facts.ledger, facts.context
    count = len(facts.typical.steps)
    if not count and len(ledger.timed().steps) >= FEWEST_STEPS:
        return _unknown(
            "of the steps their length was measured, and nothing else",
            "train with `eai.fit`, or put your own loop's steps under `with eai.step()`",
        )
    if count < FEWEST_STEPS:
        return _unknown(f"{count} measured steps, {FEWEST_STEPS} are needed", "")
    found = losses_of(facts) if found is None else found
    counted = f"over {count} steps of {len(ledger.ranks)} rank{'s' * (len(ledger.ranks) != 1)}"
    if not found:
        return _compute(facts, counted)
    best = _with_stage(found[0], context.input)
    return Verdict(**vars(replace(best, evidence=(*best.evidence, counted))))


def _with_stage(found: Finding, waited: Mapping[int, Mapping[str, float]]) -> Finding:
    """Return a finding about input with the stage of it that was waited for most."""
    if "input" not in {found.kind, found.cause}:
        return found
    # A late rank's input is what it is late for; otherwise all ranks' readers count.
    late = found.kind != "input" and found.rank in waited
    ranks = [waited[found.rank]] if late and found.rank is not None else list(waited.values())
    stage = input_waits.bound_by(ranks)
    return found if stage is None else replace(found, sentence=f"{found.sentence}, {stage}")


def _compute(facts: Facts, counted: str) -> Verdict:
    share = facts.part(COMPUTE) / facts.step
    if np.isnan(share):
        return _unknown("`compute` was not measured", "train with `eai.fit`")
    said = (
        f"compute-bound: {percent(share)} of each step computes"
        if share >= BOUND
        else f"no one loss stands out: {percent(share)} of each step computes"
    )
    step = f"`compute` {ms(facts.part(COMPUTE))} of a {ms(facts.step)} step"
    lengths = {part: facts.part(part) for part in range(len(PARTS)) if part != COMPUTE}
    known = {part: length for part, length in lengths.items() if length > 0}
    evidence = [step]
    if known:
        most = max(known, key=lambda part: known[part])
        evidence.append(f"largest loss: `{PARTS[most]}` {ms(known[most])}")
    numbers = {"step": 1e3 * facts.step, "compute": 1e3 * facts.part(COMPUTE)}
    return Verdict("compute", said, (*evidence, counted), share, numbers=numbers)


def _unknown(why: str, needed: str) -> Verdict:
    tries = (needed,) if needed else ()
    return Verdict("unknown", f"no verdict: {why}", (), float("nan"), tries=tries)
