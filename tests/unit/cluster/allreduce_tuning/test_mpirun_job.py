"""What a short run on the hosts came to, read from what ``mpirun`` printed."""

from __future__ import annotations

from eai_notebook.cluster.allreduce_tuning.mpirun_job import why_mpirun_failed


def test_the_root_cause_is_found_in_what_mpirun_says() -> None:
    lost = (
        "PRTE has lost communication with a remote daemon.\n\n"
        "  HNP daemon   : [prterun-vm-1@0,0] on node vm\n"
        "  Remote daemon: [prterun-vm-1@0,2] on node gpu2\n\nThis is usually due to"
    )
    assert why_mpirun_failed(lost) == "the host gpu2 was lost"
    assert why_mpirun_failed("x\nRuntimeError: no address\n----\n") == "RuntimeError: no address"
