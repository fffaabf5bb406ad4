"""A rank whose mpirun has ended goes on as long as the controller is there, and no longer."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import psutil
from waiting import PATIENCE_S

from eai_notebook.cluster import orphaned_rank

RANK = """
import os, sys, time
from eai_notebook.cluster import orphaned_rank
orphaned_rank.LOOK_S = 0.02
parent, child = os.getpid(), os.fork()
if child:
    time.sleep(600)
orphaned_rank.watch(parent, sys.argv[1])
print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_rank_outlives_its_parent_as_long_as_the_controller_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as controller:
        url = f"tcp://127.0.0.1:{controller.getsockname()[1]}"
        parent = subprocess.Popen(
            [sys.executable, "-c", RANK, url], stdout=subprocess.PIPE, text=True
        )
        with parent:
            assert parent.stdout is not None
            rank = psutil.Process(int(parent.stdout.readline()))
            controller.settimeout(0.2)
            assert not _is_asked(controller)  # as long as its parent is there
            parent.send_signal(signal.SIGKILL)
        controller.settimeout(PATIENCE_S)
        for _ in range(orphaned_rank.TRIES + 1):
            assert _is_asked(controller)
        assert rank.is_running()
        assert orphaned_rank.is_reachable(url)
    assert not orphaned_rank.is_reachable(url)
    psutil.wait_procs([rank], timeout=PATIENCE_S)
    assert not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE


def _is_asked(controller: socket.socket) -> bool:
    """Return whether somebody has connected, within the time that is set."""
    try:
        controller.accept()[0].close()
    except TimeoutError:
        return False
    return True
