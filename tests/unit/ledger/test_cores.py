"""Processor time of a process: what a step goes through, apart from what runs beside it."""

from __future__ import annotations

import threading
import time

from synthetic import run_rows

from eai_notebook.ledger import cores
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.verdict import verdict


def busy(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_what_runs_beside_the_training_does_not_count_for_its_steps() -> None:
    training = threading.get_native_id()
    before = cores.now(training=training)
    beside = threading.Thread(target=busy, args=(0.05,))
    beside.start()
    beside.join()
    use = cores.since(before, cores.now(training=training))
    # (A thread that has ended takes its times with it, but not the process's.)
    assert use["ran"] > 0.049
    assert use["step_ran"] < 0.02
    busy(0.05)
    use = cores.since(before, cores.now(training=training))
    assert use["step_ran"] > 0.049


def test_threads_that_no_step_waits_for_lack_nothing() -> None:
    use = {
        "ran": 2.0, "waited": 9.0, "step_ran": 1.0, "step_waited": 0.1,
        "exchange_ran": 0.5, "exchange_waited": 0.1,
        "machine": 20.0, "wall": 10.0, "cores": 2.0,
    }  # fmt: skip
    assert cores.shortage({0: use}, {0: "a"}) is None
    lack = cores.shortage({0: {**use, "step_waited": 4.0}}, {0: "a"})
    assert lack is not None
    assert (lack.share, lack.delay) == (0.2, 0.4)


def context_of(ran: float, waited: float, others: float) -> Context:
    """Return the context of two ranks whose steps had and lacked a core, in ms of each of 100 steps."""
    use = {
        "ran": 0.1 * (ran + 0.8), "waited": 0.1 * (waited + 1.5), "step_ran": 0.1 * ran,
        "step_waited": 0.1 * waited, "exchange_ran": 0.04, "exchange_waited": 0.1, "wall": 1.1, "cores": 2.0,
    }  # fmt: skip
    use["machine"] = 2 * use["ran"] / (1 - others)
    return Context(hosts={0: "a", 1: "a"}, cores={0: use, 1: use})


def calm() -> Ledger:
    rows = run_rows(
        2, 100, jitter=0.0002, compile_step=False, input=0.0005, compute=0.0086, transfer=0.0006,
        update=0.0002, other=0.001,
    )  # fmt: skip
    return merge(rows, {})


def test_what_ranks_wait_for_each_others_threads_is_no_lack_of_cores() -> None:
    # Measured: on a machine that is a third busy with others a step of 10.7 ms took 11.2 ms.
    lacking = context_of(ran=1.9, waited=1.5, others=0.35)
    assert lacking.shortage() is not None
    assert verdict(calm(), context=lacking).kind == "compute"
    # And on one that is four fifths busy, with twice the waiting, it took 12.9 ms.
    assert verdict(calm(), context=context_of(ran=1.9, waited=3.0, others=0.8)).kind == "cores"


def test_strangers_that_fill_the_cores_are_named_though_the_ranks_get_most_of_them() -> None:
    # Measured: ranks that kept 1.5 of 2 cores busy took 13.3 ms a step instead of 11 beside busy loops.
    use = {
        "ran": 0.86, "waited": 0.49, "step_ran": 0.8, "step_waited": 0.28,
        "exchange_ran": 0.02, "exchange_waited": 0.1, "wall": 1.13, "cores": 2.0,
    }  # fmt: skip

    def kind(machine: float) -> str:
        both = {rank: {**use, "machine": machine} for rank in (0, 1)}
        return verdict(calm(), context=Context(hosts={0: "a", 1: "a"}, cores=both)).kind

    assert kind(machine=2.26) == "cores"
    assert kind(machine=1.93) == "compute"  # as much waiting on cores with room is for each other


def test_a_late_rank_without_a_cause_lacks_cores_as_the_others_do() -> None:
    late = {1: {"input": 0.002, "compute": 0.002, "other": 0.002}}  # a little in everything
    rows = run_rows(2, 100, jitter=0.0002, compile_step=False, compute=0.0086, late=late)
    found = verdict(merge(rows, {}))
    assert (found.kind, found.cause) == ("wait_peer", None), found.sentence
    lacking = context_of(ran=4.0, waited=4.5, others=0.6)
    assert verdict(merge(rows, {}), context=lacking).kind == "cores"
