"""The test hosts themselves: they are apart, shaped, counted, and gone when they should be."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from hosts import leftovers
from hosts.cluster import Hosts, pids_on
from waiting import PATIENCE_S, wait_until

TESTS = Path(__file__).resolve().parent.parent

SUM = """
import sys
import time
import numpy as np
from mpi4py import MPI
world, count = MPI.COMM_WORLD, int(sys.argv[1])
data, total = np.ones(count, "float32"), np.empty(count, "float32")
world.Barrier()
begin = time.perf_counter()
world.Allreduce(data, total)
if world.rank == 0:
    print(MPI.Get_processor_name(), float(total[0]), time.perf_counter() - begin)
"""


def allreduce(hosts: Hosts, count: int, *settings: str) -> list[str]:
    """Sum `count` numbers over the hosts; return rank 0's host, the sum and the seconds."""
    command = [*hosts.mpirun(), *settings, sys.executable, "-c", SUM, str(count)]
    root = {
        f"{who}_ALLOW_RUN_AS_ROOT{end}": "1" for who in ("OMPI", "PRTE") for end in ("", "_CONFIRM")
    }
    done = subprocess.run(
        command,
        env={**os.environ, **root},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def test_a_host_has_its_name_and_its_address(hosts: Hosts) -> None:
    for name, address in zip(hosts.names, hosts.addresses, strict=True):
        said = subprocess.run(
            hosts.on(name, ["hostname;", "ip", "-br", "addr"]),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert said.split()[0] == name
        assert f"{address}/24" in said


@pytest.mark.ranks
def test_ranks_on_two_hosts_sum_over_the_links(hosts: Hosts) -> None:
    count = 2_000_000
    with hosts.crossing(at_least=4 * count) as traffic:
        name, total, seconds = allreduce(hosts, count)
    assert (name, float(total)) == (hosts.names[0], 2.0)
    # 8 MB less the burst at 62.5 MB/s; the first message also opens the connections
    assert float(seconds) > 0.08
    assert traffic.least_sent < 3 * 4 * count


def test_a_measurement_that_avoids_the_links_fails(hosts: Hosts) -> None:
    with pytest.raises(AssertionError, match="not measured on the links"), hosts.crossing(1e6):
        pass


def test_a_cut_cable_is_cut_until_it_is_mended(hosts: Hosts) -> None:
    first, second = hosts.names
    ask = hosts.on(first, ["ping", "-c1", "-W1", hosts.addresses[1]])
    if subprocess.run(
        hosts.on(first, ["which", "ping"]), capture_output=True, check=False
    ).returncode:
        ask = hosts.on(first, [f"timeout 1 bash -c '</dev/tcp/{hosts.addresses[1]}/22'"])
    hosts.cut(second)
    assert subprocess.run(ask, capture_output=True, check=False).returncode != 0
    hosts.mend(second)
    assert wait_until(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0)


def test_a_share_of_the_cores_is_kept(hosts: Hosts) -> None:
    if not hosts.has_shares:
        pytest.skip("no control groups for the cores can be made here")
    spin = (
        "import time; e = time.time() + 1\nwhile time.time() < e: pass\nprint(time.process_time())"
    )
    command = hosts.on(hosts.names[0], [sys.executable, "-c", f'"{spin}"'])
    hosts.set_cores(0.25)
    try:
        used = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    finally:
        hosts.set_cores(None)
    assert 0 < used < 0.6


CRASH = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from hosts.cluster import Hosts
made = Hosts(2)
print(*made.names, made.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_reclaimed(hosts: Hosts) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(TESTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    *names, folder = done.stdout.split()
    left = []
    for pid in (pid for name in names for pid in pids_on(name)):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that served a connection
            left.append((pid, psutil.Process(pid).create_time()))
    assert len(left) >= 2  # its sshds outlive it
    with leftovers.alone():
        assert names[0].partition("-")[0] in leftovers.reclaim()
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    tag = names[0].partition("-")[0]
    assert tag not in spaces
    assert tag not in links
    assert not Path(folder).exists()
    assert not any(leftovers.runs(*process) for process in left)
    assert hosts.names[0] in spaces  # a run that lives keeps its own
