"""How well does a forecast hold? Fitted on two ranks, tried on more, other links and other wires.

Without options the runs are imitated, by a simulator of its own: ranks compute for times with a common
part, a slow rank and chance; gradients leave in groups over a ring with latency, whose messages wait
for the next look for work. Nothing is timed, so the load of the machine does not matter. The model
was made while looking at three worlds (``--known``); what counts are others, drawn from a seed. With
``--hosts`` ranks train on hosts that are network namespaces, one rank each, whose links are shaped.

All forecasts are written to the file that is printed before the first run that they are about.

- `cells`: forecasts that were compared. `mean_abs_error_pct`, `p95_error_pct`: of the step.
- `coverage_pct`: steps that lie in the 90 % band.
- `repeat_noise_pct`: by how much the same run, made again, differs in the mean.

    python benchmarks/forecast.py --seed 1 2      # imitated, in worlds that the seeds draw
    python benchmarks/forecast.py --known         # in the three that the model was made with
    python benchmarks/forecast.py --hosts         # on test hosts; needs root
    python benchmarks/forecast.py --hosts --quick # three hosts, one link: does it work?
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import _harness as harness
import numpy as np

from eai_notebook.forecast.receipt import facts_of
from eai_notebook.forecast.step_forecast import Fit, Scenario, forecast
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.step_schema import empty_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.forecast.step_forecast import Point

RANKS: Final = (3, 4, 6, 8)
LINKS: Final = (0.25, 0.5, 1.0, 2.0)
"""In what the link of the fitted run carries."""

WIRES: Final = {"fp32": 1.0, "fp16": 0.5}
STEPS: Final = 400
GROUPS: Final = 4

PACE: Final = 0.01
"""By about this share the computing of two runs differs, whatever they do."""

TRAFFIC: Final = 0.03
"""And what a link carries, from what was measured when the group started."""


@dataclass(frozen=True)
class World:
    """What is imitated: lengths in seconds, `gradients` in bytes, `link` in bytes/s."""

    name: str
    compute: float
    common: float
    chance: float
    straggler: float
    gradients: float
    link: float
    latency: float = 60e-6
    cycle: float = 1e-3
    first: float = 0.4
    """When the first gradients are ready, as a share of `compute`."""


WORLDS: Final = (
    World("images", 0.080, 0.002, 0.0015, 0.0, 20e6, 600e6, latency=40e-6),
    World("clicks", 0.008, 0.0003, 0.0006, 0.0008, 2e6, 60e6),
    World("uneven", 0.015, 0.002, 0.003, 0.0, 4e6, 300e6, latency=90e-6),
)


def drawn(seed: int, count: int = 8) -> tuple[World, ...]:
    """Return worlds in which nothing is as the model's assumptions have it."""
    rng = np.random.default_rng(seed)

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    found = []
    for number in range(count):
        compute = between(0.004, 0.2)
        exchange = compute * between(0.05, 3.0)  # of two ranks, as far as bytes go
        gradients = between(0.5e6, 100e6)
        found.append(
            World(
                name=f"drawn {seed}.{number}",
                compute=compute,
                common=compute * between(0.005, 0.08),
                chance=compute * between(0.005, 0.15),
                straggler=compute * between(0.02, 0.3) * (rng.random() < 0.5),
                gradients=gradients,
                link=gradients / exchange,
                latency=between(15e-6, 300e-6),
                cycle=between(0.3e-3, 3e-3),
                first=float(rng.uniform(0.2, 0.8)),
            )
        )
    return tuple(found)


def hidden(moving: list[tuple[float, float]], until: float) -> float:
    """Return how long at least one group was on its way before all gradients were ready."""
    found, last = 0.0, -np.inf
    for begin, end in moving:
        found += max(0.0, min(end, until) - max(begin, last))
        last = max(last, min(end, until))
    return found


def imitate(world: World, ranks: int, seed: int, link: float = 1.0, wire: float = 1.0) -> Facts:
    """Return a run of `ranks` ranks in a world, whose link and gradients are times as large."""
    rng = np.random.default_rng(seed)
    rows = {rank: empty_steps(STEPS) for rank in range(ranks)}
    # No run is like the one before: clocks of processors, other traffic.
    world = replace(world, compute=world.compute * (1 + PACE * float(rng.normal())))
    nominal = world.link * link
    rate, sent = (
        nominal * (1 + TRAFFIC * float(rng.normal())),
        world.gradients * wire * 2 * (ranks - 1) / ranks,
    )
    slow = np.zeros(ranks)
    slow[-1] = world.straggler if ranks > 1 else 0.0
    clock = np.full(ranks, 1_790_000_000.0)
    for step in range(STEPS):
        spread = rng.gamma(4.0, 0.5, ranks) - 2.0  # skewed, with a deviation of one
        compute = world.compute + world.common * rng.normal() + world.chance * spread + slow
        given, update = 0.0004 + 0.0001 * rng.random(ranks), 0.0009 + 0.0001 * rng.random(ranks)
        begun = clock + 0.0003 + given
        free, moving = -np.inf, list[tuple[float, float]]()
        for group in range(1, GROUPS + 1):
            there = (begun + compute * (world.first + (1 - world.first) * group / GROUPS)).max()
            # Ranks look for work in turns: half of one is waited for in the mean.
            begins = max(free, there + world.cycle * rng.random())
            free = begins + 2 * (ranks - 1) * world.latency + sent / GROUPS / rate
            moving.append((there, free))
        ready = begun + compute
        reduced = np.full(ranks, free if ranks > 1 else np.nan)
        end = np.where(np.isnan(reduced), ready, reduced) + update
        for rank, own in rows.items():
            row = own[step : step + 1]
            row["begin"], row["end"], row["samples"] = clock[rank], end[rank], 256
            row["input"], row["compute"], row["update"] = given[rank], compute[rank], update[rank]
            if ranks > 1:
                row["ready"], row["reduced"], row["bytes"] = ready[rank], free, sent
                row["hidden"] = hidden(moving, ready.max())
        clock = end
    hosts = {rank: f"h{rank}" for rank in range(ranks)}
    leads = (1 - world.first) * (1 - np.arange(1, GROUPS + 1) / GROUPS)
    meta = {
        "link_bytes_per_s": nominal,
        # It is measured with a few messages.
        "link_message_s": world.latency * (1 + 0.05 * float(rng.normal())),
        "group_leads": (leads * (1 + 0.03 * rng.normal(size=GROUPS))).tolist(),
        "wire": "fp32" if wire == 1.0 else "fp16",
    }
    return Facts(merge(rows, {}), Context(hosts=hosts, meta=meta))


@dataclass(frozen=True)
class Cell:
    """One forecast, and what it is of."""

    name: str
    ranks: int
    link: float
    wire: str
    point: Point


def written(cells: Sequence[Cell]) -> None:
    """Write the forecasts, before anything that they are about has run."""
    file = Path(tempfile.mkstemp(prefix="forecasts-", suffix=".json")[1])
    file.write_text(json.dumps([asdict(cell) for cell in cells], indent=1))
    harness.say(f"{len(cells)} forecasts: {file}")


def imitated(worlds: Sequence[World]) -> tuple[list[Cell], list[float], list[float]]:
    """Return cells, their true steps, and those of the same runs again, in seconds."""
    cells = []
    for number, world in enumerate(worlds, 1):
        fit = Fit.of(imitate(world, 2, number))
        for ranks, link, wire in itertools.product(RANKS, LINKS, WIRES):
            scenario = Scenario(None if link == 1.0 else link * world.link, wire)
            (point,) = forecast(fit, [ranks], scenario)
            cells.append(Cell(world.name, ranks, link, wire, point))
    written(cells)
    by_name = {world.name: world for world in worlds}
    truths = [
        [
            imitate(by_name[cell.name], cell.ranks, seed + number, cell.link, WIRES[cell.wire]).step
            for number, cell in enumerate(cells)
        ]
        for seed in (1000, 2000)
    ]
    return cells, truths[0], truths[1]


TRAINING: Final = '''
import time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

class Work(keras.layers.Layer):
    """Computes for about 8 ms, most of it asleep, so that ranks need no core each."""

    def call(self, x):
        def work(values):
            time.sleep(0.008 + 0.001 * np.random.default_rng().gamma(2.0, 0.5))
            return values
        return tf.ensure_shape(tf.numpy_function(work, [x], x.dtype), x.shape)

def train(wire, steps):
    model = keras.Sequential([keras.Input((256,)), Work(), keras.layers.Dense(512), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("sgd", wire=wire), "mse")
    rng = np.random.default_rng(eai.rank())
    data = tf.data.Dataset.from_tensors((rng.normal(size=(8, 256)), rng.normal(size=(8, 1)))).repeat(steps)
    eai.fit(model, data, verbose=0)
'''

MBIT: Final = (200.0, 100.0, 400.0)
"""Rates of the links; the first one is that of the fitted run."""


def on_hosts(*, quick: bool) -> tuple[list[Cell], list[float], list[float]]:
    """Return the same of runs on hosts."""
    from hosts.cluster import Hosts, why_not

    from eai_notebook.session import Session

    if reason := why_not():
        sys.exit(f"no hosts here: {reason}")
    sizes, rates = ((3,), MBIT[:1]) if quick else ((3, 4, 6), MBIT)
    wires = ("fp32",) if quick else ("fp32", "fp16")
    steps = 120
    with Hosts(max(sizes), rate_mbit=MBIT[0]) as hosts:
        os.environ.update(hosts.environment())

        def run(size: int, rate: float, wire: str) -> Facts:
            hosts.shape(rate)
            names = ",".join(f"{name}:1" for name in hosts.names[:size])
            with Session(hosts=names) as session:
                session.run(TRAINING)
                session.run(f"train({wire!r}, {steps})")
                found = facts_of(session.runs[-1])
            harness.say(f"{size} hosts, {rate:g} Mbit/s, {wire}: {1e3 * found.step:.1f} ms")
            return found

        base = 1e6 * MBIT[0] / 8
        fit = Fit.of(run(2, MBIT[0], "fp32"), link=base)
        cells = []
        for size, rate, wire in itertools.product(sizes, rates, wires):
            scenario = Scenario(None if rate == MBIT[0] else 1e6 * rate / 8, wire)
            (point,) = forecast(fit, [size], scenario)
            cells.append(Cell("hosts", size, rate, wire, point))
        written(cells)
        truths = [[run(c.ranks, c.link, c.wire).step for c in cells] for _ in range(2 - quick)]
    return cells, truths[0], truths[-1]


def summarize(
    cells: list[Cell], truth: list[float], again: list[float]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures over all cells, and each cell."""
    known = [index for index, cell in enumerate(cells) if not cell.point.refused]
    errors = np.array([cells[i].point.step / truth[i] - 1 for i in known])
    inside = [cells[i].point.low <= truth[i] <= cells[i].point.high for i in known]
    noise = np.array([again[i] / truth[i] - 1 for i in known])
    summary = {
        "cells": len(known),
        "mean_abs_error_pct": 100 * float(np.abs(errors).mean()),
        "p95_error_pct": 100 * float(np.quantile(np.abs(errors), 0.95)),
        "coverage_pct": 100 * float(np.mean(inside)),
        "repeat_noise_pct": 100 * float(np.abs(noise).mean()),
        "refused": len(cells) - len(known),
    }
    details = [
        {
            "cell": f"{cells[i].name}: {cells[i].ranks} ranks, link {cells[i].link:g}, {cells[i].wire}",
            "step_low_high_measured_ms": [
                round(1e3 * each, 3)
                for each in (cells[i].point.step, cells[i].point.low, cells[i].point.high, truth[i])
            ],
        }
        for i in known
    ]
    return summary, details


def main() -> None:
    """Forecast, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", action="store_true", help="on test hosts, which needs root")
    parser.add_argument("--quick", action="store_true", help="one cell on hosts")
    parser.add_argument("--known", action="store_true", help="worlds that the model was made with")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="each draws worlds")
    arguments = parser.parse_args()
    each = [world for seed in arguments.seed for world in drawn(seed)]
    worlds = WORLDS if arguments.known else tuple(each)
    cells, truth, again = on_hosts(quick=arguments.quick) if arguments.hosts else imitated(worlds)
    summary, details = summarize(cells, truth, again)
    if arguments.quick:
        sys.stdout.write(json.dumps(summary) + "\n")  # not a result: no file
    else:
        name = "forecast_hosts" if arguments.hosts else "forecast"
        harness.finish(name, summary, {"cells": details})


if __name__ == "__main__":
    main()
