from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

from eai_notebook.process_lease import (
    Lease,
    end_processes,
    families,
    is_running,
    leased_process,
    start_time,
    started,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(900)"]
UNRESPONSIVE = [
    sys.executable,
    "-c",
    (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True);"
        "time.sleep(900)"
    ),
]


def test_what_is_covered_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    (folder / "key").touch()
    with subprocess.Popen(SLEEP) as covered:
        owner = subprocess.Popen(
            [
                sys.executable,
                "-c",
                (
                    "import time; from eai_notebook.process_lease import Lease\n"
                    f"lease = Lease(); lease.cover([{covered.pid}])\n"
                    f"lease.cover_folder({str(folder)!r}); print(flush=True); time.sleep(900)"
                ),
            ],
            stdout=subprocess.PIPE,
        )
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.kill()
        owner.communicate()
        assert covered.wait(PATIENCE_S) != 0
    assert wait_until(lambda: not folder.exists())


def test_what_a_covered_process_has_started_ends_with_it() -> None:
    start = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {!r}]).pid)"
    sleep = "import time; time.sleep(900)"
    parent = [sys.executable, "-c", f"{start.format(sleep)}; sys.stdout.flush(); {sleep}"]
    with subprocess.Popen(parent, stdout=subprocess.PIPE, text=True) as covered:
        assert covered.stdout is not None
        child = psutil.Process(int(covered.stdout.readline()))
        both = started([covered.pid, child.pid])
        assert sorted(families(both)) == sorted(both)
        owner = f"from eai_notebook.process_lease import Lease; Lease().cover([{covered.pid}])"
        subprocess.run([sys.executable, "-c", owner], check=True)
        assert covered.wait(PATIENCE_S) != 0
    psutil.wait_procs([child], PATIENCE_S)
    assert not child.is_running()


def test_what_is_covered_with_patience_may_leave_by_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]) as covered:
        owner = [
            sys.executable,
            "-c",
            f"from eai_notebook.process_lease import Lease; Lease(600.0).cover([{covered.pid}])",
        ]
        subprocess.run(owner, check=True)
        assert covered.wait(PATIENCE_S) == 0


def test_what_is_released_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as process:
        lease = Lease()
        lease.cover([process.pid])
        lease.release()
        time.sleep(0.2)
        assert process.poll() is None
        process.kill()


def test_a_process_that_does_not_listen_is_killed() -> None:
    with subprocess.Popen(UNRESPONSIVE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        at = start_time(psutil.Process(process.pid))
        assert end_processes([(process.pid, at)], grace=0.2) == [process.pid]
        assert process.wait(PATIENCE_S) != 0


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as process:
        assert end_processes([(process.pid, 1.0)]) == []
        assert process.poll() is None
        process.kill()


def test_a_step_of_the_clock_changes_nobodys_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(SLEEP) as process:
        known = started([process.pid])
        linux = pytest.importorskip("psutil._pslinux")
        boot = linux.boot_time
        for step in (5, 3600, -3600):
            monkeypatch.setattr(linux, "boot_time", lambda step=step: boot() + step)
            assert is_running(known[0])
            assert families(known) == known
        assert end_processes(known) == [process.pid]
        assert process.wait(PATIENCE_S) != 0


def test_what_outlives_a_covered_process_is_found_by_its_group() -> None:
    start = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {!r}]).pid)"
    leader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{start.format('import time; time.sleep(900)')}; sys.stdout.flush(); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert leader.stdin is not None
    assert leader.stdout is not None
    left = psutil.Process(int(leader.stdout.readline()))
    covered = started([leader.pid])
    leader.stdin.close()
    leader.wait(PATIENCE_S)
    leader.stdout.close()
    assert started([left.pid])[0] in families(covered)
    assert end_processes(families(covered)) == [left.pid]
    left.wait(PATIENCE_S)


def test_a_leased_process_ends_with_its_block_and_takes_along_what_it_started() -> None:
    child = "import subprocess, sys; child = subprocess.Popen(sys.argv[1:]); "
    program = [sys.executable, "-c", f"{child}print(child.pid, flush=True); child.wait()"]
    with leased_process([*program, *SLEEP]) as process:
        assert process.stdout is not None
        (grandchild,) = started([int(process.stdout.readline())])
        (parent,) = started([process.pid])
    assert not is_running(parent)
    assert not is_running(grandchild)


def test_a_leased_process_that_ignores_the_request_to_end_is_killed() -> None:
    with leased_process(UNRESPONSIVE, patience=0.2) as process:
        assert process.stdout is not None
        process.stdout.readline()
    assert process.returncode == -9
