"""What makes a namespace a machine: a name of its own, an sshd, a share of the cores."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from hosts.leftovers import Remains
    from hosts.network import Wire

_CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 5_000
"""Short, so that a host that has used up its share does not stop for long."""


def start_sshd(wire: Wire, folder: Path, remains: Remains) -> subprocess.Popen[bytes]:
    """Start the host's sshd, which lets in the owner of the key in `folder`."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    settings = folder / f"{wire.host}.conf"
    settings.write_text(
        f"ListenAddress {wire.address}\n"
        f"HostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {folder / 'key.pub'}\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"PermitRootLogin yes\nMaxStartups 100\nUseDNS no\nPrintMotd no\n"
    )
    named = 'hostname "$0" && exec "$@"'
    command = ["ip", "netns", "exec", wire.namespace, "unshare", "--uts", "sh", "-c", named]
    with (folder / f"{wire.host}.log").open("wb") as log:
        sshd = subprocess.Popen(
            [*command, wire.host, "/usr/sbin/sshd", "-D", "-e", "-f", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    remains.add("pids", [sshd.pid, psutil.Process(sshd.pid).create_time()])
    return sshd


def wait_for_sshd(wire: Wire, sshd: subprocess.Popen[bytes], folder: Path) -> None:
    """Return when the host answers; raise with what its sshd wrote if it does not."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and sshd.poll() is None:
        with socket.socket() as door:
            door.settimeout(1)
            if door.connect_ex((wire.address, 22)) == 0:
                return
        time.sleep(0.02)
    log = (folder / f"{wire.host}.log").read_text(errors="replace")
    raise RuntimeError(f"no sshd on {wire.host}: {log}")


class Share:
    """A host's share of the cores: a control group that its sshd, and all it starts, is in."""

    def __init__(self, name: str, remains: Remains) -> None:
        self._group = _parent() / name
        remains.add("groups", str(self._group))
        self._group.mkdir()

    def take_in(self, pid: int) -> None:
        """Have the process, and what it will start, count here."""
        (self._group / "cgroup.procs").write_text(str(pid))

    def set_cores(self, cores: float | None) -> None:
        """Let them use so many cores together; None takes the limit away."""
        quota = -1 if cores is None else int(cores * PERIOD_US)
        if (self._group / "cpu.cfs_quota_us").exists():
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            limit = "max" if cores is None else quota
            (self._group / "cpu.max").write_text(f"{limit} {PERIOD_US}")

    def set_weight(self, times: int) -> None:
        """Let them come before the machine's other work: so many times its share of the cores."""
        old = self._group / "cpu.shares"
        if old.exists():
            old.write_text(str(1024 * times))
        else:
            (self._group / "cpu.weight").write_text(str(100 * times))


def can_share() -> bool:
    """Return whether control groups for the cores can be made here."""
    parent = _parent()
    try:
        probe = parent / "eai-probe"
        probe.mkdir(exist_ok=True)
        works = (probe / "cpu.cfs_quota_us").exists() or (probe / "cpu.max").exists()
        probe.rmdir()
    except OSError:
        return False
    return works


def _parent() -> Path:
    """Return where control groups for the cores are made: version 1 has a folder for them."""
    return _CGROUPS / "cpu" if (_CGROUPS / "cpu" / "cgroup.procs").exists() else _CGROUPS
