"""Processor time of a process: what a step goes through, apart from what runs beside it."""

from __future__ import annotations

import threading
import time

from eai_notebook.ledger import cores


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
