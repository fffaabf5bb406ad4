"""Forecast a step: fit a run's record, and put another number of ranks, link or wire into the fit.

A step is the work of the slowest rank (input, compute, update and what has no name), and what of the
exchange is not hidden. The band is what remains unknown: blocks of the run's steps are drawn anew,
and what one run cannot say, such as what of an exchange grows with the ranks, is drawn too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.forecast.exchange_time import LATENCY_S, WINDOW, Exchange, Unknown, exposed
from eai_notebook.forecast.slowest_rank import Work
from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.parts import OWN, PARTS, TRANSFER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eai_notebook.ledger.arrays import Floats
    from eai_notebook.ledger.facts import Facts

FEWEST_STEPS: Final = 30
"""From fewer measured steps nothing is forecast."""

FURTHEST: Final = 8
"""Of the ranks that were measured: beyond so many times their number no exchange is forecast."""

DRAWS: Final = 300
BLOCKS: Final = 12
BAND: Final = (0.05, 0.95)
LEAST_DOUBT: Final = 0.015
"""Two runs of the same settings differ by about this share of a step, and no fit knows which comes."""

WIRE_BYTES: Final[Mapping[str, float]] = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.05}
"""Bytes a gradient takes; those of int8 with its scales."""

_SEED: Final = 20_260_601


@dataclass(frozen=True)
class Fit:
    """What a run says of its steps; seconds.

    ``own[R, S]`` is what each rank did itself in each step, ``parts`` the mean of each own part on the
    rank where it takes longest. ``batch`` are a rank's samples.
    """

    own: Floats
    parts: Mapping[str, float]
    exchange: Exchange | None
    batch: float
    wire: str

    @property
    def ranks(self) -> int:
        """The ranks of the run."""
        return len(self.own)

    @classmethod
    def of(cls, facts: Facts, link: float | None = None) -> Fit:
        """Return the fit of a run's typical steps; ``link`` in bytes/s where the record has none.

        Raises:
            EaiError: Too few steps were measured.
        """
        ledger = facts.typical
        own = np.nansum(ledger.parts[:, :, OWN], axis=2)
        known = np.isfinite(ledger.wall).all(axis=0)
        own = own[:, known]
        if own.shape[1] < FEWEST_STEPS:
            raise EaiError(
                f"{own.shape[1]} measured steps are too few for a forecast",
                f"train for longer: {FEWEST_STEPS} are needed",
                code="forecast-steps",
            )
        ranks = len(ledger.ranks)
        parts = {PARTS[part]: float(np.nanmax(facts.by_rank[:, part])) for part in OWN
                 if np.isfinite(facts.by_rank[:, part]).any()}  # fmt: skip
        sent = float(np.nan_to_num(mean(ledger.bytes)))
        exchange = None
        if ranks > 1:
            exchange = Exchange(
                ranks,
                sent * ranks / (2 * (ranks - 1)),
                float(np.nan_to_num(facts.part(TRANSFER))),
                float(np.nan_to_num(mean(ledger.hidden))),
                facts.context.link if facts.context.link is not None else link,
                parts.get("compute", 0.0),
            )
        return cls(own, parts, exchange, facts.batch, str(facts.context.meta.get("wire", "fp32")))


@dataclass(frozen=True)
class Scenario:
    """What is asked: ``link`` in bytes/s and ``wire`` as they would be; None leaves them as they are.

    ``strong`` keeps the batch of all ranks together, so that each gets a smaller share.
    """

    link: float | None = None
    wire: str | None = None
    strong: bool = False


@dataclass(frozen=True)
class Point:
    """The forecast for a number of ranks: seconds a step with a 90 % band, and what it is made of.

    ``largest`` is the part that takes most; ``refused`` says why there is no forecast.
    """

    ranks: int
    step: float = np.nan
    low: float = np.nan
    high: float = np.nan
    samples_per_s: float = np.nan
    efficiency: float = np.nan
    largest: str = ""
    refused: str = ""


def forecast(fit: Fit, ranks: list[int], scenario: Scenario | None = None) -> list[Point]:
    """Return the forecast for each number of ranks.

    Examples:
        >>> own = np.full((2, 200), 0.010)
        >>> fit = Fit(own, {"compute": 0.010}, Exchange(2, 4e6, 0.040, 0.0, 1e8), 32.0, "fp32")
        >>> two, four, far = forecast(fit, [2, 4, 64])
        >>> round(1e3 * two.step, 1), round(1e3 * four.step, 1), four.largest
        (50.0, 70.0, 'transfer')
        >>> far.refused
        'no exchange of more than 16 ranks follows from one of 2'
    """
    scenario = scenario or Scenario()
    base = _speed(fit, 1, _step(fit, 1, scenario, Unknown()), scenario)
    return [_point(fit, each, scenario, base) for each in ranks]


def refusal(fit: Fit, ranks: int, scenario: Scenario) -> str:
    """Return why the fit says nothing about so many ranks; empty if it does."""
    return next(_reasons(fit, ranks, scenario), "")


def _reasons(fit: Fit, ranks: int, scenario: Scenario) -> Iterator[str]:
    seen, wires = fit.exchange, {scenario.wire or fit.wire, fit.wire}
    if ranks > Work.of(fit.own).most_ranks:
        yield f"{fit.own.size} measured steps of ranks do not show the slowest of {ranks}"
    if ranks == 1:
        return
    if seen is None:
        yield "one rank exchanges nothing: measure two"
        return
    furthest = FURTHEST * seen.ranks
    if ranks > furthest:
        yield f"no exchange of more than {furthest} ranks follows from one of {seen.ranks}"
    if scenario.link is not None and seen.link is None:
        yield "what the run's own link carries is not known, so another cannot be compared"
    if scenario.wire is not None and not wires <= WIRE_BYTES.keys():
        yield f"how many bytes {scenario.wire} takes, in those of {fit.wire}, is not known"


def _point(fit: Fit, ranks: int, scenario: Scenario, base: float) -> Point:
    if reason := refusal(fit, ranks, scenario):
        return Point(ranks, refused=reason)
    unknown = Unknown()
    step = _step(fit, ranks, scenario, unknown)
    drawn = np.array(list(_draws(fit, ranks, scenario)))
    low, high = np.quantile(drawn, BAND)
    speed = _speed(fit, ranks, step, scenario)
    parts = {
        name: length * _share(fit, ranks, scenario, name) for name, length in fit.parts.items()
    }
    parts["transfer"] = _exposed(fit, ranks, scenario, unknown)
    return Point(
        ranks,
        step,
        float(min(low, step)),
        float(max(high, step)),
        speed,
        speed / (base * ranks),
        max(parts, key=lambda name: parts[name]),
    )


def _draws(fit: Fit, ranks: int, scenario: Scenario) -> Iterator[float]:
    """Yield steps of fits to blocks of the run that were drawn anew."""
    rng = np.random.default_rng(_SEED)
    blocks = np.array_split(np.arange(fit.own.shape[1]), BLOCKS)
    for _ in range(DRAWS):
        chosen = np.concatenate([blocks[b] for b in rng.integers(0, len(blocks), len(blocks))])
        again = Fit(fit.own[:, chosen], fit.parts, fit.exchange, fit.batch, fit.wire)
        drawn = Unknown(float(rng.triangular(*LATENCY_S)), float(rng.triangular(*WINDOW)))
        step = _step(again, ranks, scenario, drawn)
        yield step * (1 + LEAST_DOUBT * float(rng.normal()))


def _step(fit: Fit, ranks: int, scenario: Scenario, unknown: Unknown) -> float:
    own = fit.own
    if scenario.strong:
        # The share of the batch; what does not depend on it is in the parts that are no compute.
        computed = fit.parts.get("compute", 0.0)
        rest = max(float(own.mean()) - computed, 0.0)
        share = _share(fit, ranks, scenario, "compute")
        own = own * ((rest + share * computed) / max(float(own.mean()), 1e-12))
    return float(Work.of(own).slowest(ranks) + _exposed(fit, ranks, scenario, unknown))


def _share(fit: Fit, ranks: int, scenario: Scenario, part: str) -> float:
    """Return by how much a part shrinks with a rank's batch."""
    return fit.ranks / ranks if scenario.strong and part in ("compute", "input") else 1.0


def _exposed(fit: Fit, ranks: int, scenario: Scenario, unknown: Unknown) -> float:
    seen = fit.exchange
    if seen is None or ranks == 1:
        return 0.0
    bytes_factor = link_factor = 1.0
    if scenario.wire is not None:
        bytes_factor = WIRE_BYTES[scenario.wire] / WIRE_BYTES[fit.wire]
    if scenario.link is not None and seen.link:
        link_factor = scenario.link / seen.link
    return exposed(seen, ranks, bytes_factor=bytes_factor, link_factor=link_factor, unknown=unknown)


def _speed(fit: Fit, ranks: int, step: float, scenario: Scenario) -> float:
    """Return the samples a second of all ranks."""
    together = fit.ranks if scenario.strong else ranks
    return fit.batch * together / step


def knee(points: list[Point]) -> int | None:
    """Return the most ranks that are at least half as efficient as one alone; None if none are.

    Examples:
        >>> knee([Point(2, efficiency=0.9), Point(4, efficiency=0.6), Point(8, efficiency=0.4)])
        4
    """
    good = [each.ranks for each in points if each.efficiency >= 0.5]  # noqa: PLR2004 -- a half
    return max(good, default=None)


def worth_running(points: list[Point]) -> int | None:
    """Return the number of ranks whose run would say most: the one with the widest band.

    Examples:
        >>> worth_running([Point(2, 1.0, 0.9, 1.1), Point(4, 1.0, 0.7, 1.4), Point(8, refused="far")])
        4
    """
    known = [each for each in points if not each.refused]
    widest = max(known, key=lambda each: (each.high - each.low) / each.step, default=None)
    return None if widest is None else widest.ranks
