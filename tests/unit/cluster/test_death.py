from __future__ import annotations

from eai_notebook.cluster.mpirun_output import cause_of_death

MPIRUN_ON_EXIT_CODE_0 = """
prterun has exited due to process rank 1 with PID 0 on node vm exiting
improperly. There are three reasons this could occur:
"""


def test_a_rank_that_ended_its_own_process_is_named() -> None:
    found = cause_of_death(MPIRUN_ON_EXIT_CODE_0)
    assert found is not None
    assert "rank 1 on vm" in found
    assert "os._exit(0)" in found


def test_other_words_are_no_cause() -> None:
    assert cause_of_death("nothing of that kind") is None
