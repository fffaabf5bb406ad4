"""The parent of a rank: it reports the rank's end, ends likewise, and takes the rank with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from eai_notebook.cluster.mpirun_output import causes_of_death

PROGRAM = """
import os, signal, sys
from eai_notebook.cluster import rank_parent
rank_parent.split_off()
print(os.getpid(), flush=True)
{end}
"""


def started(end: str, **more: str) -> subprocess.Popen[Any]:
    environment = {**os.environ, "OMPI_COMM_WORLD_RANK": "2", "EAI_ELASTIC": "1", **more}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "SIGKILL"),
        ("sys.exit(3)", 3, "exit code 3"),
    ],
)
def test_it_reports_the_end_and_ends_likewise(end: str, status: int, words: str) -> None:
    process = started(end)
    _, errors = process.communicate()
    assert process.returncode == status
    assert words in causes_of_death(errors)[2]


def test_the_rank_does_not_outlive_it() -> None:
    process = started("signal.pause()")
    assert process.stdout is not None
    rank = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    assert rank.wait(30) is None or not rank.is_running()


def test_signals_reach_the_rank() -> None:
    process = started("signal.pause()")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert "SIGTERM" in causes_of_death(errors)[2]


def test_without_fault_tolerance_there_is_none() -> None:
    process = started("", EAI_ELASTIC="")
    output, errors = process.communicate()
    assert int(output) == process.pid
    assert not errors
