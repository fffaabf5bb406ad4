"""`Hosts`: several hosts on one machine, for tests and benchmarks.

Each host is a network namespace with a name of its own, an sshd and a link whose rate is
set; all share this machine's files, so the same Python environment is on each. Processes
on different hosts cannot reach each other but through the links, and a measurement has to
prove that it used them: see `Hosts.crossing`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from hosts import leftovers
from hosts.cgroups_sshd import Share, can_share, start_sshd, wait_for_sshd
from hosts.network import Network
from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOOLS = ("ip", "tc", "ssh", "ssh-keygen", "unshare")


def why_not() -> str | None:
    """Return why test hosts cannot be made here, in a sentence; None if they can."""
    if os.geteuid() != 0:
        return "test hosts need root: they are network namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    if missing:
        return f"test hosts need {', '.join(missing)} (see tools/sshd)"
    probe = f"eai-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return "test hosts need network namespaces, and this machine allows none"
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return None


class Traffic(dict[str, tuple[int, int]]):
    """Bytes that each host sent and received while something was measured."""

    @property
    def least_sent(self) -> int:
        """The bytes of the host that sent least."""
        return min(sent for sent, _ in self.values())


class Hosts:
    """`count` hosts; make it in a ``with`` block, or call `close`.

    ``rate_mbit`` limits each link in each direction (Mbit/s), ``cores`` each host's
    processes together (where control groups can be made; ``has_shares`` says so).
    """

    def __init__(
        self, count: int, *, rate_mbit: float | None = None, cores: float | None = None
    ) -> None:
        reason = why_not()
        if reason:
            raise RuntimeError(reason)
        with leftovers.alone():
            leftovers.reclaim()
            tag = f"e{os.getpid():x}{os.urandom(1).hex()}"
            self._remains = leftovers.Remains(tag)
            self._sshds: list[subprocess.Popen[bytes]] = []
            try:
                self._make(tag, count)
                self.shape(rate_mbit)
                self.set_cores(cores)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs on the hosts, and remove them."""
        self._remains.remove()
        for sshd in self._sshds:
            sshd.wait()

    @property
    def names(self) -> list[str]:
        """The hosts' names, as ssh, mpirun and `hostname` know them."""
        return [wire.host for wire in self._network.wires]

    @property
    def addresses(self) -> list[str]:
        """The hosts' addresses, in the order of their names."""
        return [wire.address for wire in self._network.wires]

    @property
    def subnet(self) -> str:
        """The hosts' own network, as in ``10.77.3.0/24``."""
        return str(self._network.subnet)

    @property
    def desk_address(self) -> str:
        """The address under which hosts reach this machine itself."""
        return self._network.desk_address

    @property
    def ssh(self) -> list[str]:
        """The ssh command that gets into the hosts; a host's name comes next."""
        return ["ssh", "-F", str(self.folder / "ssh_config")]

    def shape(self, rate_mbit: float | None) -> None:
        """Give every link this rate in each direction, in Mbit/s; None takes the limit away."""
        self.rate_mbit = rate_mbit
        self._network.shape(rate_mbit)

    def set_cores(self, cores: float | None) -> None:
        """Let each host use so many cores; needs control groups if it is not None."""
        if cores is not None and not self.has_shares:
            raise RuntimeError("a host's cores can be limited only with control groups")
        for share in self._shares:
            share.set_cores(cores)

    def favour(self, times: int = 50) -> None:
        """Have the hosts come before whatever else this machine does, for a measurement."""
        for share in self._shares:
            share.set_weight(times)

    def cut(self, host: str) -> None:
        """Pull the host's network cable."""
        self._network.cut(host)

    def mend(self, host: str) -> None:
        """Plug the host's network cable in again."""
        self._network.mend(host)

    def environment(self) -> dict[str, str]:
        """Return what a process on this machine needs to start ranks on the hosts."""
        return {"EAI_SSH": " ".join(self.ssh), "XDG_CACHE_HOME": str(self.folder / "cache")}

    def on(self, host: str, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` on `host` by ssh."""
        return [*self.ssh, host, "--", *command]

    def mpirun(
        self, count: int | None = None, *, slots: int = 1, settings: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the start of a command line that runs a program on the first `count` hosts.

        ``settings`` are MCA parameters, such as ``{"coll_tuned_use_dynamic_rules": "1"}``.
        Give the program's environment with ``-x``, and run it with `environment`.
        """
        from eai_notebook.cluster.mpi_environment import find_mpirun

        chosen = self.names[:count]
        command = [find_mpirun(), "--host", ",".join(f"{name}:{slots}" for name in chosen)]
        command += ["-n", str(slots * len(chosen)), "--bind-to", "none"]
        command += ["--prefix", str(Path(find_mpirun()).parent.parent)]
        command += ["--prtemca", "prte_if_include", self.subnet]
        command += ["--mca", "plm_ssh_agent", " ".join(self.ssh)]
        fixed = {"pml": "ob1", "btl": "tcp,self,sm", "btl_tcp_if_include": self.subnet}
        for name, value in {**fixed, **(settings or {})}.items():
            command += ["--mca", name, value]
        return command

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return for each host the bytes sent and received on its link so far."""
        return self._network.counters()

    @contextlib.contextmanager
    def crossing(self, at_least: float, hosts: int | None = None) -> Iterator[Traffic]:
        """Fail unless each of the first `hosts` hosts sends `at_least` bytes on its link.

        Put every measurement inside: ranks that use shared memory behind the links' back
        are quick, and wrong. The bytes are in what it yields, once the block is over.
        """
        traffic = Traffic()
        before = self.counters()
        yield traffic
        after = self.counters()
        for name in self.names[:hosts]:
            sent, received = (
                now - then for now, then in zip(after[name], before[name], strict=True)
            )
            traffic[name] = (sent, received)
        assert traffic.least_sent >= at_least, (
            f"the links carried {dict(traffic)} bytes (sent, received), "
            f"but {at_least:,.0f} had to be sent by each: this was not measured on the links"
        )

    def _make(self, tag: str, count: int) -> None:
        self._shares: list[Share] = []
        self.folder = Path(tempfile.gettempdir()) / f"eai-hosts-{tag}"
        self._remains.add("folders", str(self.folder))
        self.folder.mkdir(mode=0o700)
        self._network = Network(tag, count, self._remains)
        self._make_keys()
        self._make_ssh_config()
        self._make_names()
        self.has_shares = can_share()
        for wire in self._network.wires:
            sshd = start_sshd(wire, self.folder, self._remains)
            self._sshds.append(sshd)
            if self.has_shares:
                share = Share(wire.host, self._remains)
                share.take_in(sshd.pid)
                self._shares.append(share)
        for wire, sshd in zip(self._network.wires, self._sshds, strict=True):
            wait_for_sshd(wire, sshd, self.folder)

    def _make_keys(self) -> None:
        for name in ("key", "host_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]
            subprocess.run([*command, str(self.folder / name)], check=True)

    def _make_ssh_config(self) -> None:
        entries = [f"Host {wire.host}\n  HostName {wire.address}" for wire in self._network.wires]
        everywhere = [
            "Host *",
            f"  IdentityFile {self.folder / 'key'}",
            "  IdentitiesOnly yes",
            "  UserKnownHostsFile /dev/null",
            "  StrictHostKeyChecking no",
            "  LogLevel ERROR",
            "  BatchMode yes",
        ]
        (self.folder / "ssh_config").write_text("\n".join([*entries, *everywhere]) + "\n")

    def _make_names(self) -> None:
        """Give each host a table of names of its own; `ip netns exec` puts it in place."""
        wires = self._network.wires
        table = "".join(f"{wire.address} {wire.host}\n" for wire in wires)
        table += f"{self.desk_address} {socket.gethostname()}\n127.0.0.1 localhost\n"
        for wire in wires:
            folder = Path("/etc/netns") / wire.namespace
            self._remains.add("folders", str(folder))
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(table)


def pids_on(host: str) -> list[int]:
    """Return the processes that run on `host`, its sshd included."""
    command = ["ip", "netns", "pids", host]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid in said.split() if psutil.pid_exists(int(pid))]
