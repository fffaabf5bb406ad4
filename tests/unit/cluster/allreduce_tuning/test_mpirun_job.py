"""What a short run on the hosts came to, read from what ``mpirun`` printed."""

from __future__ import annotations

import os
import sys

import pytest
from expected_errors import raises_code

from eai_notebook.cluster.allreduce_tuning import mpirun_job
from eai_notebook.cluster.allreduce_tuning.mpirun_job import why_mpirun_failed


def test_the_root_cause_is_found_in_what_mpirun_says() -> None:
    lost = (
        "PRTE has lost communication with a remote daemon.\n\n"
        "  HNP daemon   : [prterun-vm-1@0,0] on node vm\n"
        "  Remote daemon: [prterun-vm-1@0,2] on node gpu2\n\nThis is usually due to"
    )
    assert why_mpirun_failed(lost) == "the host gpu2 was lost"
    assert why_mpirun_failed("x\nRuntimeError: no address\n----\n") == "RuntimeError: no address"


@pytest.mark.slow
def test_a_measurement_is_stuck_when_it_gets_no_further_not_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mpirun_job, "PATIENCE_S", 8.0)  # a program may be slow to start
    monkeypatch.setattr(mpirun_job, "LOOK_S", 0.1)
    slow = "import time\nfor _ in range(5): print(flush=True); time.sleep(2)\nprint('over')"
    said = mpirun_job._output_of([sys.executable, "-c", slow], os.environ, "a measurement")
    assert said.split() == ["over"]
    stuck = "import time\nprint(flush=True)\ntime.sleep(900)"
    with raises_code("hosts-silent", "a measurement", 8):
        mpirun_job._output_of([sys.executable, "-c", stuck], os.environ, "a measurement")
