"""Elastic training under random schedules of deaths, notices, joins, slow ranks and lost hosts.

Each schedule is drawn from its seed. On this machine: 2 to 6 ranks, of which some are killed (rank 0
too, two at once, down to one, or below the least number), some leave on notice, some are slow, and in
some a rank joins, which deaths may hit as well. On hosts (network namespaces, reached by ssh): 2 to 6
ranks on 2 or 3 hosts, of which one or two are lost, all of their processes killed or their cable pulled.
The losses of every step are compared with those of a run that nothing has disturbed.

A loss is timed from the signal, or the pulled cable, to the end of the first step that all that are left
have made without the lost one. A time is null where no schedule had what it times. A join on hosts is not possible.

``--restarts`` has all ranks start again from a checkpoint when one dies, instead. ``--cost`` measures what fault tolerance costs
when nothing fails, and virtual ranks beside as many as there are ranks, on 2 ranks of this machine.

Batches add up: what was found on the same day stays in the result, unless ``--anew`` is given.

    python benchmarks/elastic.py --schedules 100 --hosts 100          # needs root for the hosts
    python benchmarks/elastic.py --schedules 20 --hosts 0 --seed 500
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import _harness as harness
import numpy as np
from _elastic_cost import cost, restart, summary_of_cost
from _elastic_runs import Runs
from _elastic_schedules import STEPS, Outcome, Schedule, on_hosts, on_this_machine


def main() -> None:
    """Run the schedules and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100, help="on this machine")
    parser.add_argument("--hosts", type=int, default=100, help="on hosts")
    parser.add_argument("--seed", type=int, default=0, help="the first one of each kind")
    parser.add_argument("--restarts", type=int, default=3, help="starts from a checkpoint")
    parser.add_argument("--cost", type=int, default=3, help="turns of all settings")
    parser.add_argument("--anew", action="store_true", help="forget what was found on this day")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    options = parser.parse_args()
    details = {} if options.anew or options.dry else harness.earlier("elastic")
    found = Outcome(details.get("schedules"))
    _run_schedules(options, found, details)
    for _ in range(options.restarts):
        details["restarts"] = [*details.get("restarts", []), restart()]
        _keep(options, found, details)
    for _ in range(options.cost):
        details["cost"] = cost(details.get("cost", {}))
        _keep(options, found, details)
    if options.dry:
        harness.say(json.dumps(_summary(found, details)))
    else:
        harness.finish("elastic", _summary(found, details), details)


def _run_schedules(options: argparse.Namespace, found: Outcome, details: dict[str, Any]) -> None:
    """Run the schedules that are asked for, and keep what was found after each."""
    seeds = range(options.seed, options.seed + max(options.schedules, options.hosts))
    todo = [
        draw(seed)
        for seed in seeds
        for draw, count in ((on_this_machine, options.schedules), (on_hosts, options.hosts))
        if seed - options.seed < count
    ]
    if not todo:
        return
    with Runs() as runs:
        alone = runs.run(Schedule(0, [1]))
        assert alone is not None, "a run of one rank hangs"
        usual = [line["loss"] for line in alone.lines[0] if "loss" in line]
        assert len(usual) == STEPS, f"{len(usual)} steps"
        for schedule in todo:
            began, known = time.monotonic(), {kind: len(s) for kind, s in found.seconds.items()}
            well = found.add(schedule, runs.run(schedule), usual)
            new = {kind: s[known[kind] :] for kind, s in found.seconds.items() if s[known[kind] :]}
            harness.say(
                f"{schedule.name}: {schedule.slots} {schedule.events} {schedule.least}: "
                f"{'well' if well else 'NOT WELL'} in {time.monotonic() - began:.1f} s; "
                f"{new} {dict(found.counts)}, {found.difference:.1e}"
            )
            details["schedules"] = found.details
            _keep(options, found, details)


def _keep(options: argparse.Namespace, found: Outcome, details: dict[str, Any]) -> None:
    """Keep what there is so far: a run may be stopped."""
    if not options.dry:
        harness.keep("elastic", _summary(found, details), details)


def _summary(found: Outcome, details: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of all that was measured on this day."""
    summary = found.summary()
    if restarts := details.get("restarts"):
        summary["restart_from_checkpoint_s"] = round(float(np.median(restarts)), 1)
    return summary | (summary_of_cost(details["cost"]) if "cost" in details else {})


if __name__ == "__main__":
    main()
