"""Check other hosts before ranks start there: reachable, equal software, a route back.

All hosts are asked at once, by ssh, in one to two seconds. What is wrong is found here,
with its remedy, instead of as ranks that never come.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from eai_notebook.cluster import host_probe, remote_python
from eai_notebook.cluster.host_findings import (
    PACKAGES,
    HostFinding,
    networks_of,
    own_software,
    same_paths,
    same_software,
    way_back,
)
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from eai_notebook.cluster.hostfile import Host

ANSWER_S: Final = 30.0
"""How long a host may take to say everything about itself."""
CLOCK_TRIPS: Final = 5
CLOCK_NOTE_S: Final = 0.1
"""Clocks further apart than this make files and logs of two hosts hard to put in order."""


@dataclass(frozen=True)
class Placement:
    """Where a group goes, once its hosts are known to be fit for it."""

    hosts: tuple[Host, ...]
    controller: str
    """The address of this machine that all hosts reach."""
    networks: tuple[str, ...]
    """The networks that hosts and controller talk over, as in ``10.1.2.0/24``."""
    cores: int
    """Cores of the host that has fewest."""
    fabric: bool
    """Whether every host has a network that MPI drives better than TCP."""
    here: frozenset[str]
    """The hosts that are this machine itself."""

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return sum(host.slots for host in self.hosts)

    @property
    def most_slots(self) -> int:
        """Ranks on the host that has most."""
        return max(host.slots for host in self.hosts)


@dataclass
class Survey:
    """All findings about some hosts."""

    findings: list[HostFinding] = field(default_factory=list)
    placement: Placement | None = None

    @property
    def failures(self) -> list[HostFinding]:
        """The findings that keep ranks from starting."""
        return [finding for finding in self.findings if finding.state == "fail"]


def prepare(hosts: Sequence[Host], interface: str | None = None) -> Placement:
    """Return where the group goes; raises an `EaiError` with every failure if it cannot go there.

    ``interface`` is the interface, address or network of this machine to use, for when
    the way by which it reaches the hosts is not the one they shall use back.
    """
    survey = inspect_hosts(hosts, interface)
    failed = survey.failures
    if failed or survey.placement is None:
        what = "; ".join(f"{finding.host}: {finding.found}" for finding in failed)
        remedies = dict.fromkeys(finding.remedy for finding in failed)
        raise EaiError(what, "; ".join(remedies), code="hosts-unfit")
    return survey.placement


def inspect_hosts(hosts: Sequence[Host], interface: str | None = None) -> Survey:
    """Ask every host about itself, at once, and compare what they say with this machine."""
    addresses = {host.name: remote_python.address_of(host.name) for host in hosts}
    controller = controller_address(addresses, interface)
    here = frozenset(name for name, address in addresses.items() if remote_python.is_here(address))
    mine = own_software()
    with socket.create_server((controller, 0)) as door, ThreadPoolExecutor(len(hosts)) as asking:
        question = {
            "packages": PACKAGES,
            "controller": [controller, door.getsockname()[1]],
            "mpirun": find_mpirun(),
            "folder": str(Path.cwd()),
        }
        answers = list(
            asking.map(lambda host: _ask(host.name, question, here=host.name in here), hosts)
        )
    survey = Survey()
    for host, answer in zip(hosts, answers, strict=True):
        survey.findings += _judge(host, answer, addresses[host.name], mine, controller)
    survey.findings += same_machines(hosts, answers)
    if not survey.failures:
        survey.placement = _place(hosts, answers, controller, here)
    return survey


def controller_address(addresses: dict[str, str | None], interface: str | None) -> str:
    """Return the address of this machine that the hosts are to come back to."""
    if interface is not None:
        return _address_of_interface(interface)
    ways = [remote_python.local_address_to(address) for address in addresses.values() if address]
    found = [way for way in ways if way is not None]
    outside = [way for way in found if not way.startswith("127.")]
    return (outside or found or ["127.0.0.1"])[0]


def _address_of_interface(named: str) -> str:
    """Return this machine's address on an interface, given by name, address or network."""
    for name, ends in psutil.net_if_addrs().items():
        for end in ends:
            if end.family != socket.AF_INET:
                continue
            if named in (name, end.address) or _is_in(end.address, named):
                return end.address
    known = ", ".join(name for name in psutil.net_if_addrs())
    what = f"this machine has no interface {named}"
    raise EaiError(what, f"name one of {known}", code="interface-unknown")


def _is_in(address: str, network: str) -> bool:
    try:
        return "/" in network and ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _ask(name: str, question: dict[str, Any], *, here: bool) -> dict[str, Any]:
    """Return what the host says of itself, or ``{"error": ..., "code": ...}``."""
    source = Path(host_probe.__file__).read_text(encoding="utf-8")
    process = remote_python.open_python(name, source, here=here)
    overdue = threading.Timer(ANSWER_S, process.kill)
    overdue.start()
    try:
        remote_python.send_json(process, question)
        assert process.stdout is not None  # noqa: S101  PIPE was asked for
        line = next((line for line in process.stdout if line.startswith(host_probe.MARK)), "")
        if line:
            answer: dict[str, Any] = json.loads(line.removeprefix(host_probe.MARK))
            answer["clock"] = _clock_offset(process)
            process.communicate()
            return answer
        _, said = process.communicate()
        return {"error": said, "code": process.returncode, "late": not overdue.is_alive()}
    except (ValueError, OSError) as error:
        process.kill()
        _, said = process.communicate()
        return {"error": f"{said}\n{error}", "code": process.returncode, "late": False}
    finally:
        overdue.cancel()


def _clock_offset(process: subprocess.Popen[str]) -> tuple[float, float] | None:
    """Return how far the host's clock is ahead, and by how much that may be wrong, in s."""
    assert process.stdin is not None  # noqa: S101  PIPE was asked for
    assert process.stdout is not None  # noqa: S101  PIPE was asked for
    best: tuple[float, float] | None = None
    for _ in range(CLOCK_TRIPS):
        sent = time.time()
        remote_python.send_json(process, None)
        reading = process.stdout.readline()
        back = time.time()
        if not reading:
            return best
        half = (back - sent) / 2
        if best is None or half < best[1]:
            best = (float(reading) - (sent + half), half)
    return best


def _judge(
    host: Host,
    answer: dict[str, Any],
    address: str | None,
    mine: dict[str, Any],
    controller: str,
) -> list[HostFinding]:
    """Return the lines about one host; one failure ends them, since the rest cannot be known."""
    if "error" in answer:
        return [_unreachable(host.name, answer, address)]
    if address is None and remote_python.has_address(host.name):
        remedy = f"give {host.name} an IPv4 address, in DNS, ~/.ssh/config or /etc/hosts"
        words = "it has an IPv6 address only, and ranks and notebook talk over IPv4"
        return [HostFinding(host.name, "network", "fail", words, remedy)]
    lines = [HostFinding(host.name, "ssh", "ok", f"in, as {answer['host']} ({address})")]
    lines.append(same_software(host.name, answer, mine))
    lines.append(same_paths(host.name, answer, find_mpirun(), str(Path.cwd())))
    lines.append(way_back(host.name, answer, controller))
    lines.append(_slots(host, answer))
    lines.append(_clock(host.name, answer["clock"]))
    return lines


def _unreachable(name: str, answer: dict[str, Any], address: str | None) -> HostFinding:
    words = remote_python.cause(answer["error"])
    if answer.get("late"):
        words = f"no answer in {ANSWER_S:.0f} s"
        return HostFinding(name, "ssh", "fail", words, f"see what holds up `ssh {name} true`")
    if answer["code"] == 255:  # noqa: PLR2004  ssh's own failures
        remedy = f"make `ssh {name} true` work without a password"
        if address is None:
            remedy = f"correct the name, or put {name} into ~/.ssh/config or /etc/hosts"
            if remote_python.has_address(name):
                remedy = f"give {name} an IPv4 address: ranks and notebook talk over IPv4 only"
        elif "verification failed" in words:
            remedy = f"run `ssh {name}` once by hand and accept its key"
        return HostFinding(name, "ssh", "fail", f"cannot be reached by ssh ({words})", remedy)
    if answer["code"] in (126, 127):
        found = f"there is no {sys.executable}"
        return HostFinding(name, "Python", "fail", found, "make the same environment on every host")
    found = f"its Python failed ({words})"
    return HostFinding(name, "Python", "fail", found, "make the same environment on every host")


def _slots(host: Host, answer: dict[str, Any]) -> HostFinding:
    gpus, cores = answer["gpus"], answer["cores"]
    found = f"{host.slots} ranks on {cores} cores, {gpus or 'no'} GPU{'s' * (gpus != 1)}"
    if gpus and host.slots != gpus:
        remedy = f"a rank a GPU is usual: `{host.name}:{gpus}`"
        return HostFinding(host.name, "slots", "note", found, remedy)
    if host.slots > cores:
        remedy = f"ranks that share a core are slower: `{host.name}:{cores}`"
        return HostFinding(host.name, "slots", "note", found, remedy)
    return HostFinding(host.name, "slots", "ok", found)


def _clock(name: str, clock: tuple[float, float] | None) -> HostFinding:
    if clock is None:
        return HostFinding(name, "clock", "note", "unknown", "")
    offset, half = clock
    found = f"{offset * 1e3:+.1f} ms (within {half * 1e3:.1f} ms)"
    if abs(offset) - half > CLOCK_NOTE_S:
        remedy = "set the clocks by NTP; what ranks measure is corrected in any case"
        return HostFinding(name, "clock", "note", found, remedy)
    return HostFinding(name, "clock", "ok", found)


def same_machines(hosts: Sequence[Host], answers: Sequence[dict[str, Any]]) -> list[HostFinding]:
    """Return a failure for each host that is a machine named before, by another name.

    Open MPI takes the names for two machines, and its ranks then wait for each other.
    """
    found: list[HostFinding] = []
    first: dict[str, Host] = {}
    for host, answer in zip(hosts, answers, strict=True):
        known = first.setdefault(answer.get("machine") or host.name, host)
        if known is not host:
            remedy = f"name it once, with all its ranks: `{known.name}:{known.slots + host.slots}`"
            words = f"it is the same machine as {known.name}"
            found.append(HostFinding(host.name, "names", "fail", words, remedy))
    return found


def _place(
    hosts: Sequence[Host], answers: list[dict[str, Any]], controller: str, here: frozenset[str]
) -> Placement:
    networks = networks_of(answers)
    for ends in psutil.net_if_addrs().values():
        own = [f"{end.address}/{end.netmask}" for end in ends if end.address == controller]
        networks += [str(ipaddress.ip_network(each, strict=False)) for each in own]
    return Placement(
        hosts=tuple(hosts),
        controller=controller,
        networks=tuple(dict.fromkeys(networks)),
        cores=min(answer["cores"] for answer in answers),
        fabric=all(answer["fabric"] for answer in answers),
        here=here,
    )
