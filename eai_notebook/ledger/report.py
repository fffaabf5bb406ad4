"""The report of a run: duration of each part, worst rank, rates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.ledger.aggregate import Summary
from eai_notebook.ledger.arrays import Floats, mean
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.followed_run import read_run
from eai_notebook.ledger.formatting import amount, count, ms, percent
from eai_notebook.ledger.losses import WORTH_NAMING
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.one_rank import in_words, speed_up
from eai_notebook.ledger.parts import INPUT, PARTS, WAIT_PEER
from eai_notebook.ledger.training_curve import summary_line
from eai_notebook.ledger.trial_outcome import trial_texts
from eai_notebook.ledger.verdict import Verdict, verdict_of
from eai_notebook.ledger.virtual_shares import changes
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eai_notebook.ledger.run_record import RunInfo, RunRecord


@dataclass(frozen=True)
class PartNumbers:
    """One part over all ranks and typical steps: seconds, and its share of the wall time.

    ``mean`` is what the chart's legend and a comparison show; the means add up to the step.
    ``worst_rank`` is the rank with the longest mean, None where nothing was measured.
    """

    part: str
    mean: float
    median: float
    p95: float
    share: float
    worst_rank: int | None
    worst_mean: float


@dataclass(frozen=True)
class Rates:
    """What a step amounts to, over the typical steps; NaN is "not measured".

    ``step`` is its mean length in seconds; ``samples_per_s`` counts all ranks;
    ``bytes_per_step`` is what one rank sends to others, ``embedding_bytes`` the part of it
    that was rows of embeddings, ``redone`` the exchanges a step that fp16 could not carry.
    ``bus_bandwidth`` is NCCL's: bytes/s that leave a rank over the exposed and the hidden
    time of the exchange.
    """

    step: float
    steps_per_s: float
    samples_per_s: float
    bytes_per_step: float
    embedding_bytes: float
    redone: float
    bus_bandwidth: float
    hidden: float


@dataclass(frozen=True)
class Report:
    """All numbers of a run; `to_text` is what a person reads."""

    title: str
    ranks: tuple[int, ...]
    steps: int
    counted: int
    clamped: int
    parts: tuple[PartNumbers, ...]
    rates: Rates
    verdict: Verdict
    measuring_pct: float
    input_wait: str | None = None
    remarks: tuple[str, ...] = ()
    speed_up: dict[str, float] | None = None

    def to_text(self) -> str:
        """Return the verdict, the table and the rates as plain text."""
        blocks = [self.head(), self.verdict.evidence, map(_line, self.table()), self.notes()]
        return "\n\n".join("\n".join(block) for block in blocks)

    def head(self) -> list[str]:
        """Return the verdict and, where there are any, its remedies, a line each."""
        return [self.verdict.sentence, *([self.verdict.advice] if self.verdict.advice else [])]

    def table(self) -> list[list[str]]:
        """Return the headings, and a row for each part; one that was not measured has two cells."""
        many = len(self.ranks) > 1
        head = ["part", "mean", "median", "p95", "share", *["worst rank"] * many]
        return [head, *(_cells(numbers, many=many) for numbers in self.parts)]

    def model(self) -> dict[str, Any]:
        """Return the same for the panel, which makes a table of it."""
        lines = [*self.head(), *self.verdict.evidence]
        return {"lines": lines, "table": self.table(), "notes": self.notes()}

    def notes(self) -> list[str]:
        """Return the rates, how many steps these are, and what else there is to say."""
        rates = self.rates
        size = len(self.ranks)
        fragments = [
            f"typical step {ms(rates.step)}" if np.isfinite(rates.step) else "no step was measured"
        ]
        if np.isfinite(rates.samples_per_s):
            fragments.append(f"{count(rates.samples_per_s)} samples/s")
        if self.speed_up:
            fragments.append(in_words(self.speed_up))
        if np.isfinite(rates.bytes_per_step):
            fragments.append(f"{amount(rates.bytes_per_step)}/step" + _of_embeddings(rates))
        if np.isfinite(rates.bus_bandwidth):
            fragments.append(f"bus bandwidth {amount(rates.bus_bandwidth)}/s")
        if rates.hidden > 0:
            fragments.append(f"{ms(rates.hidden)} of communication hidden behind compute")
        if np.isfinite(self.measuring_pct):
            fragments.append(f"measuring cost {self.measuring_pct:.2f} %")
        counted = (
            f"{self.title}: {self.steps} steps on {size} rank{'s' * (size != 1)}, "
            f"{self.counted} of them typical"
        )
        if rates.redone > 0:
            fragments.append(f"{rates.redone:.3g} exchanges a step made again: fp16 overflowed")
        notes = [" · ".join(fragments), counted, *self.remarks]
        if self.input_wait:
            notes.insert(0, self.input_wait)
        if self.clamped:
            notes.append(f"{self.clamped} steps had contradicting stamps; they were cut to fit")
        return notes


def report(ledger: Ledger, info: RunInfo | None = None) -> Report:
    """Return the numbers of a ledger; `info` adds the run's name and the cost of measuring."""
    summary = Summary()
    summary.add(ledger)
    return _report(summary, info)


def _report(summary: Summary, info: RunInfo | None) -> Report:
    facts = Facts(summary.kept, Context.of(info) if info else Context())
    parts = tuple(_numbers(facts, part) for part in range(len(PARTS)))
    return Report(
        title=info.name if info else "run",
        ranks=summary.ranks,
        steps=summary.steps,
        counted=len(facts.typical.steps),
        clamped=summary.clamped,
        parts=parts,
        rates=rates(facts),
        verdict=verdict_of(facts),
        measuring_pct=measuring_pct(summary.wall, info),
        input_wait=_input_wait(parts[INPUT], facts.context),
        remarks=(*_remarks(facts), *changes(facts.context.meta), *_of_columns(info)),
        speed_up=_speed_up(facts, info),
    )


def _speed_up(facts: Facts, info: RunInfo | None) -> dict[str, float] | None:
    """Return the run's rate against that of one rank, where it is known."""
    rate = rates(facts).samples_per_s
    return speed_up(info.meta, info.size, facts.batch, rate) if info else None


def _input_wait(numbers: PartNumbers, context: Context) -> str | None:
    """Return the stage that input waits for, where the input is worth a word at all."""
    waited = input_waits.describe_input_wait(context.input.values())
    if waited is None or numbers.share >= WORTH_NAMING or np.isnan(numbers.share):
        return waited
    return f"input: no problem, {percent(numbers.share)} of the steps"


def _remarks(facts: Facts) -> Iterator[str]:
    """Yield what else there is to say of a run."""
    typical, context = facts.typical, facts.context
    aligned = float(mean(typical.parts[:, :, WAIT_PEER]))
    alone = float(mean(typical.unaligned))
    if np.isfinite(aligned) and np.isfinite(alone) and len(typical.ranks) > 1:
        gap = ms(abs(aligned - alone))
        yield f"waiting: {ms(aligned)} by the ranks' clocks, {ms(alone)} by durations alone ({gap} apart)"
    between = [f"{name} {seconds:.2g} s" for name, seconds in context.between()[:4]]
    if between:
        yield f"between steps: {', '.join(between)}"
    if "wire_trial" in context.meta:
        yield str(context.meta["wire_trial"])
    for line in trial_texts(context.meta):
        yield f"tried: {line}"


def _of_columns(info: RunInfo | None) -> Iterator[str]:
    """Yield what a record has that cannot be shown here."""
    unknown = info.unknown_columns() if info else []
    if unknown:
        names = ", ".join(unknown)
        yield f"the record has columns of parts that are not installed here: {names}; see `other`"


def report_record(record: RunRecord) -> Report:
    """Return the numbers of a run on disk."""
    run = read_run(record)
    found = _report(run.summary, run.info)
    line = summary_line(run.curve.model(run.info.meta), run.info)
    return replace(found, remarks=(*found.remarks, line)) if line else found


def merge_record(record: RunRecord) -> Ledger:
    """Return the ledger of all steps of a run on disk; displays are made from `read_run`."""
    rows = {rank: record.rows(rank) for rank in record.ranks}
    return merge(rows, record.info.clock_offset, record.info.clock_uncertainty)


def rates(facts: Facts) -> Rates:
    """Return the rates of a run over its typical steps."""
    typical, step = facts.ledger.timed(), facts.step
    size = len(typical.ranks)
    samples = float(mean(typical.samples)) * size
    moved = float(mean(typical.bytes))
    hidden = float(mean(typical.hidden))
    return Rates(
        step=step,
        steps_per_s=1 / step if step > 0 else np.nan,
        samples_per_s=samples / step if step > 0 else np.nan,
        bytes_per_step=moved,
        embedding_bytes=float(mean(typical.embedding_bytes)),
        redone=float(mean(typical.redone)),
        bus_bandwidth=facts.bus_bandwidth,
        hidden=hidden,
    )


def measuring_pct(wall: float, info: RunInfo | None) -> float:
    """Return what the ranks spent measuring, in percent of their wall time; NaN if unknown.

    ``wall`` is the time of all steps of all ranks, in seconds.
    """
    if info is None or not info.measuring or wall <= 0:
        return float("nan")
    return 100 * sum(info.measuring.values()) / wall


def _numbers(facts: Facts, part: int) -> PartNumbers:
    typical = facts.typical
    here: Floats = typical.parts[:, :, part]
    known = here[np.isfinite(here)]
    by_rank = facts.by_rank[:, part]
    if not len(known):
        return PartNumbers(PARTS[part], np.nan, np.nan, np.nan, np.nan, None, np.nan)
    worst = int(np.nanargmax(by_rank))
    return PartNumbers(
        part=PARTS[part],
        mean=facts.part(part),
        median=float(np.median(known)),
        p95=float(np.percentile(known, 95)),
        share=facts.part(part) / facts.step,
        worst_rank=typical.ranks[worst],
        worst_mean=float(by_rank[worst]),
    )


def _of_embeddings(rates: Rates) -> str:
    """Say how much of the bytes were rows of embeddings, where any were."""
    if not rates.embedding_bytes > 0:
        return ""
    return f" ({amount(rates.embedding_bytes)} of it embeddings)"


def _cells(numbers: PartNumbers, *, many: bool) -> list[str]:
    if not np.isfinite(numbers.median):
        return [numbers.part, "not measured"]
    worst = [f"{numbers.worst_rank} ({ms(numbers.worst_mean)})"] * many
    lengths = [ms(length) for length in (numbers.mean, numbers.median, numbers.p95)]
    return [numbers.part, *lengths, percent(numbers.share), *worst]


def _line(cells: list[str]) -> str:
    """Return a row of the table as text, its numbers below each other."""
    name, *values = cells
    if len(values) == 1:
        return f"{name:<10}{values[0]:>38}"
    widths = (10, 10, 10, 8)
    line = "".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=False))
    return f"{name:<10}{line}" + "".join(f"  {value}" for value in values[len(widths) :])
