"""`SlurmCluster`: a real Slurm on this machine, with each node in a network namespace of its own.

Debian's slurmctld runs on the machine itself, one slurmd on each test host (`hosts.cluster`), munged
with a key of its own. It is up in seconds. Everything is noted first and removed also by a later run.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from hosts.cluster import Hosts
from hosts.cluster import why_not as why_no_hosts
from typing_extensions import Self

from eai_notebook.cluster.mpi_environment import find_mpirun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOOLS = ("sbatch", "scontrol", "squeue", "sinfo", "slurmctld", "slurmd", "munged")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
SOON_S = 40.0

_CONFIGURATION = """
ClusterName=eai
SlurmctldHost={desk}({desk_address})
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
MinJobAge=300
SlurmdTimeout=30
InactiveLimit=0
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000,default_queue_depth=50
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
"""


def why_not() -> str | None:
    """Return why there can be no Slurm here, in a sentence; None if there can."""
    if reason := why_no_hosts():
        return reason.replace("test hosts need", "a Slurm of several nodes needs")
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    if missing:
        return f"tests with Slurm need {', '.join(missing)} (see tools/slurm)"
    return None


class SlurmCluster:
    """`count` nodes of `cores` each; make it in a ``with`` block, or call `close`.

    There are two partitions on all nodes: ``debug`` (the default one; at most an hour, a quarter by
    default), and ``low``, whose jobs are preempted by those of ``debug``.
    """

    def __init__(self, count: int = 3, *, cores: int = 2, rate_mbit: float | None = None) -> None:
        self.hosts = Hosts(count, rate_mbit=rate_mbit)
        self._cores = cores
        self._remains = self.hosts._remains
        try:
            self._start()
        except BaseException as error:
            logs = [
                path.read_text(errors="replace")[-800:] for path in self.hosts.folder.glob("*.out")
            ]
            self.close()
            what = f"Slurm did not start ({error})"
            raise RuntimeError("\n".join([what, *logs])) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the jobs, the daemons and the hosts."""
        if self._conf.exists():
            self.slurm("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            self.slurm("scontrol", "shutdown", check=False)
        self.hosts.close()

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return self.hosts.names

    @property
    def _conf(self) -> Path:
        return self.hosts.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """Return what a process on this machine needs to use this Slurm."""
        return {
            "SLURM_CONF": str(self._conf),
            "XDG_CACHE_HOME": str(self.hosts.folder / "cache"),
            "XDG_CONFIG_HOME": str(self.hosts.folder / "config"),
        }

    def slurm(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands; return what it prints."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the state of each job that Slurm still has, pending or running."""
        lines = self.slurm("squeue", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def published(self) -> list[str]:
        """Return what others may read of the jobs: their scripts."""
        return [self.slurm("scontrol", "write", "batch_script", job, "-") for job in self.jobs()]

    def fill(self, partition: str = "debug") -> str:
        """Take all cores by one job, so that others have to wait; return its number."""
        count = str(len(self.nodes))
        command = ["sbatch", "--parsable", "-N", count, "--exclusive", "-p", partition]
        out = f"--output={self.hosts.folder / 'fill.log'}"
        job = self.slurm(*command, out, "--wrap", "sleep 600").strip()
        wait_until(lambda: self.jobs().get(job) == "RUNNING")
        return job

    def cancel(self, job: str) -> None:
        """Cancel a job, and wait until it is gone."""
        self.slurm("scancel", job)
        wait_until(lambda: job not in self.jobs())

    def run_plain_job(self, command: Sequence[str], seconds: float = 120.0) -> float:
        """Run a command as two ranks on two nodes, by ``sbatch`` and ``mpirun`` alone; return how long that takes.

        Raises:
            RuntimeError: It failed or did not end in `seconds`; with what it has printed.
        """
        mpirun = [find_mpirun(), "-n", "2", "--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE"]
        network = ["--prtemca", "prte_if_include", self.hosts.subnet]
        names = [f"{kind}_ALLOW_RUN_AS_ROOT" for kind in ("OMPI", "PRTE")]
        root = " ".join(f"{name}=1 {name}_CONFIRM=1" for name in names)
        with tempfile.TemporaryDirectory(dir=self.hosts.folder) as folder:
            script, log = Path(folder) / "job.sh", Path(folder) / "job.log"
            script.write_text(
                f"#!/bin/bash\n#SBATCH -N2 -n2 -t 10 -o {log}\nexport {root}\n"
                f"{shlex.join([*mpirun, *network, *command])}\necho code $?\n"
            )
            begin = time.perf_counter()
            self.slurm("sbatch", str(script))
            while not (end := re.search(r"^code (\d+)\n", _text(log), re.MULTILINE)):
                if time.perf_counter() - begin > seconds:
                    raise RuntimeError(f"a plain job did not end in {seconds:.0f} s: {_text(log)}")
                time.sleep(0.02)
            taken = time.perf_counter() - begin
            if end[1] != "0":
                raise RuntimeError(f"a plain job failed: {_text(log)}")
        self.wait_until_idle()
        return taken

    def set_node(self, node: str, state: str) -> None:
        """Set a node ``down``, or have it ``resume``."""
        # A node that is down comes back by itself when its slurmd reports, which may be sooner.
        command = ("scontrol", "update", f"nodename={node}", f"state={state}", "reason=test")
        self.slurm(*command, check=state != "resume")

    def wait_until_idle(self) -> None:
        """Return when no job is left, and all nodes can be used."""
        wait_until(lambda: not self.jobs())
        wait_until(lambda: set(self.slurm("sinfo", "-h", "-o", "%t").split()) == {"idle"})

    def _start(self) -> None:
        folder = self.hosts.folder
        folder.chmod(0o755)  # munged runs as a user of its own
        (folder / "state").mkdir()
        self._start_munge(folder / "munge")
        hosts = zip(self.nodes, self.hosts.addresses, strict=True)
        lines = [
            f"NodeName={name} NodeHostname={name} NodeAddr={address} CPUs={self._cores} State=UNKNOWN"
            for name, address in hosts
        ]
        everywhere = f"Nodes={','.join(self.nodes)} State=UP OverSubscribe=NO"
        lines += [
            f"PartitionName=debug {everywhere} Default=YES MaxTime=60 DefaultTime=15 PriorityTier=2",
            f"PartitionName=low {everywhere} MaxTime=60 DefaultTime=15 PriorityTier=1",
        ]
        settings = _CONFIGURATION.format(
            desk=socket.gethostname(),
            desk_address=self.hosts.desk_address,
            port=_free_port(),
            node_port=_free_port(),
            folder=folder,
        )
        self._conf.write_text(settings + "\n".join(lines) + "\n")
        self._run("slurmctld", ["slurmctld", "-D", "-f", str(self._conf)])
        for name in self.nodes:
            slurmd = ["slurmd", "-D", "-N", name, "-f", str(self._conf)]
            self._run(f"slurmd-{name}", [*_inside(name), *slurmd])
        wait_until(
            lambda: (
                self.slurm("sinfo", "-h", "-t", "idle", "-o", "%D", check=False).split()[:1]
                == [str(len(self.nodes))]
            )
        )

    def _start_munge(self, folder: Path) -> None:
        user = pwd.getpwnam("munge")
        folder.mkdir(mode=0o755)
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        for path in (folder, folder / "key"):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "seed-file": "seed",
            "log-file": "log",
        }
        words = [f"--{what}={folder / name}" for what, name in files.items()]
        self._run("munged", ["munged", "--foreground", "--force", *words], user="munge")
        wait_until((folder / "socket").exists)

    def _run(self, name: str, command: Sequence[str], **settings: Any) -> None:
        with (self.hosts.folder / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PATH": SEARCH, "SLURM_CONF": str(self._conf)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **settings,
            )
        self.hosts._sshds.append(process)
        self._remains.add("pids", [process.pid, psutil.Process(process.pid).create_time()])


def _inside(node: str) -> list[str]:
    """Return the start of a command that runs on a node, which keeps this machine's /sys.

    Slurm wants to see control groups there; ``ip netns exec`` would hide them.
    """
    prepare = 'hostname "$0" && mount --bind "/etc/netns/$0/hosts" /etc/hosts && exec "$@"'
    namespaces = ["nsenter", f"--net=/run/netns/{node}", "unshare", "--uts", "--mount"]
    return [*namespaces, "sh", "-c", prepare, node]


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def wait_until(condition: Callable[[], object], seconds: float = SOON_S) -> None:
    """Return when `condition` holds; fail if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("", 0)) as door:
        port: int = door.getsockname()[1]
        return port
