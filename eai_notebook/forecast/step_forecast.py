"""Forecast a step: fit a run's record, and put another number of ranks, link or wire into the fit.

A step is the work of the slowest rank (input, compute, update and what has no name), and what of the
exchange is not hidden. The band is what remains unknown: blocks of the run's steps are drawn anew,
and what one run cannot say, such as what of an exchange grows with the ranks, is drawn too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.forecast.exchange_time import (
    LATENCY_S,
    WINDOW,
    Exchange,
    Replay,
    Unknown,
    exposed,
)
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

DRAWS: Final = 200
BLOCKS: Final = 12
BAND: Final = (0.05, 0.95)
LEAST_DOUBT: Final = 0.015
"""Two runs of the same settings differ by about this share of a step, and no fit knows which comes."""

LINK_DOUBT: Final = 0.045
"""And what their links carry differs by about this share."""

CHANCE_DOUBT: Final = 0.15
"""Two ranks show by about this share how far more of them differ: how long the tail is they hardly do."""

WIRE_BYTES: Final[Mapping[str, float]] = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.05}
"""Bytes a gradient takes; those of int8 with its scales."""

SCALE: Final = (0.9, 1.0, 1.1)
"""By what share bytes and messages of a training take longer than when they were measured alone."""

ALIKE: Final = 0.3
"""The chance that ranks which were not measured are like all measured ones, the slowest too."""

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

    @cached_property
    def work(self) -> Work:
        """What ranks do themselves."""
        return Work.of(self.own)

    @cached_property
    def drawn(self) -> list[_Draw]:
        """The fit itself, and fits as they could be as well."""
        return list(_draws(self))

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
                facts.context.message_s,
                _leads(facts.context.meta.get("group_leads")),
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
    base = _speed(fit, 1, _step(fit.drawn[0], 1, scenario), scenario)
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


@dataclass(frozen=True)
class _Draw:
    """A fit as it could be as well: of blocks of the run's steps, and what it leaves unknown."""

    fit: Fit
    replay: Replay | None
    alike: bool = False
    """Whether ranks that were not measured may be as slow as the slowest that was."""
    factor: float = 1.0
    """By how much another run of the same settings differs."""
    link: float = 1.0
    """What a link carries in that run, in what it carried."""
    chance: float = 1.0
    """How far ranks differ by chance, in what they differed."""


def _point(fit: Fit, ranks: int, scenario: Scenario, base: float) -> Point:
    if reason := refusal(fit, ranks, scenario):
        return Point(ranks, refused=reason)
    step = _step(fit.drawn[0], ranks, scenario)
    drawn = np.array([_step(each, ranks, scenario) for each in fit.drawn[1:]])
    low, high = np.quantile(drawn, BAND)
    speed = _speed(fit, ranks, step, scenario)
    parts = {
        name: length * _share(fit, ranks, scenario, name) for name, length in fit.parts.items()
    }
    parts["transfer"] = _exposed(fit.drawn[0], ranks, scenario)
    return Point(
        ranks,
        step,
        float(min(low, step)),
        float(max(high, step)),
        speed,
        speed / (base * ranks),
        max(parts, key=lambda name: parts[name]),
    )


def _draws(fit: Fit) -> Iterator[_Draw]:
    """Yield the fit itself, then fits to blocks of the run that were drawn anew."""
    rng = np.random.default_rng(_SEED)
    seen = fit.exchange
    yield _Draw(fit, None if seen is None else Replay(seen, Unknown()))
    blocks = np.array_split(np.arange(fit.own.shape[1]), BLOCKS)
    for _ in range(DRAWS):
        chosen = np.concatenate([blocks[b] for b in rng.integers(0, len(blocks), len(blocks))])
        again = Fit(fit.own[:, chosen], fit.parts, seen, fit.batch, fit.wire)
        unknown = Unknown(
            float(rng.triangular(*LATENCY_S)),
            float(rng.triangular(*WINDOW)),
            float(rng.random()),
            float(rng.triangular(*SCALE)),
            float(rng.triangular(*SCALE)),
        )
        replay = None if seen is None else Replay(seen, unknown)
        factor = 1 + LEAST_DOUBT * float(rng.normal())
        traffic = 1 + LINK_DOUBT * float(rng.normal())
        chance = max(1 + CHANCE_DOUBT * float(rng.normal()), 0.0)
        yield _Draw(again, replay, bool(rng.random() < ALIKE), factor, traffic, chance)


def _step(draw: _Draw, ranks: int, scenario: Scenario) -> float:
    work, fit = draw.fit.work, draw.fit
    if scenario.strong:
        # The share of the batch; what does not depend on it is in the parts that are no compute.
        computed, whole = fit.parts.get("compute", 0.0), float(fit.own.mean())
        rest = max(whole - computed, 0.0)
        share = _share(fit, ranks, scenario, "compute")
        work = Work.of(fit.own * ((rest + share * computed) / max(whole, 1e-12)))
    others = None
    if draw.alike:
        # Quantiles of the measured ranks' offsets, whichever rank they are of.
        beyond = max(ranks - fit.ranks, 0)
        others = np.quantile(work.offsets, (np.arange(beyond) + 0.5) / max(beyond, 1))
    work = replace(work, deviations=draw.chance * work.deviations)
    return draw.factor * (work.slowest(ranks, others) + _exposed(draw, ranks, scenario))


def _share(fit: Fit, ranks: int, scenario: Scenario, part: str) -> float:
    """Return by how much a part shrinks with a rank's batch."""
    return fit.ranks / ranks if scenario.strong and part in ("compute", "input") else 1.0


def _exposed(draw: _Draw, ranks: int, scenario: Scenario) -> float:
    fit, replay = draw.fit, draw.replay
    seen = fit.exchange
    if seen is None or replay is None or ranks == 1:
        return 0.0
    bytes_factor, link_factor = 1.0, draw.link
    if scenario.wire is not None:
        bytes_factor = WIRE_BYTES[scenario.wire] / WIRE_BYTES[fit.wire]
    if scenario.link is not None and seen.link:
        link_factor *= scenario.link / seen.link
    return exposed(replay, ranks, bytes_factor=bytes_factor, link_factor=link_factor)


def _speed(fit: Fit, ranks: int, step: float, scenario: Scenario) -> float:
    """Return the samples a second of all ranks."""
    together = fit.ranks if scenario.strong else ranks
    return fit.batch * together / step


def _leads(noted: object) -> tuple[float, ...] | None:
    """Return when groups of gradients are ready, as the record has noted it."""
    if not isinstance(noted, list) or not noted:
        return None
    if not all(isinstance(each, int | float) and 0 <= each < np.inf for each in noted):
        return None
    return tuple(map(float, noted))


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
