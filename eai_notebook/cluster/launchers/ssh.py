"""The ssh launcher: ranks on several hosts under one ``mpirun`` on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import Instance

from eai_notebook.cluster import remote_python
from eai_notebook.cluster.forwarding import forwarded
from eai_notebook.cluster.launchers.local import MpirunLauncher, find_mpirun, rank_environment
from eai_notebook.cluster.preflight import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHER = "eai_notebook.cluster.launchers.ssh.HostsEngineSetLauncher"

_LOST = {"time": "4", "intvl": "2", "probes": "3"}
"""After so many silent seconds, and so many probes so many seconds apart, mpirun and a host
give each other up: a pulled cable sends no word. Open MPI's own default is eight minutes."""

_ABORT_DELAY_S = "3"
"""A rank whose peer is gone aborts the group; it waits, so that mpirun hears first of what the
peer died."""


def mpirun_arguments(place: Placement, ring: Mapping[str, str]) -> list[str]:
    """Return what ``mpirun`` needs to put ranks on the hosts of `place`.

    ``ring`` are the MCA parameters of the chosen allreduce algorithms.
    """
    networks = ",".join(place.networks)
    hosts = ",".join(f"{host.name}:{host.slots}" for host in place.hosts)
    words = ["--host", hosts, "--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]
    words += ["--prefix", str(Path(find_mpirun()).resolve().parent.parent)]
    words += ["--wdir", str(Path.cwd())]
    words += ["--prtemca", "plm_ssh_agent", shlex.join(remote_python.ssh_command())]
    words += ["--prtemca", "prte_if_include", networks]
    for what, value in _LOST.items():
        words += ["--prtemca", f"oob_tcp_keepalive_{what}", value]
    parameters = {"btl_tcp_if_include": networks, "mpi_abort_delay": _ABORT_DELAY_S}
    if not place.fabric:
        # Other transports would be tried first, each with an idea of its own of the way.
        parameters |= {"pml": "ob1", "btl": "tcp,self,sm"}
    for name, value in {**parameters, **ring}.items():
        words += ["--mca", name, value]
    return words


def host_environment(place: Placement) -> dict[str, str]:
    """Return the environment of ranks that share a host of `place` among themselves."""
    return rank_environment(place.most_slots, place.cores)


class HostsEngineSetLauncher(MpirunLauncher):
    """Starts engines on other hosts as one MPI group.

    Configured with where they go, the MCA parameters of their ring, and more variables
    that they are told.
    """

    entrypoint_name = LAUNCHER  # what ipyparallel writes down for whoever attaches later

    place = Instance(Placement).tag(config=True)
    ring: Any = Instance(dict, args=()).tag(config=True)
    told: Any = Instance(dict, args=()).tag(config=True)
    listen: Any = Instance(dict, args=())
    """The variables that have ranks and daemons listen on their networks only."""

    def start(self, n: int) -> object:
        """Start `n` engines, as many as `place` has slots."""
        away = {"EAI_AWAY": "1"}  # a rank must expect that it loses the controller
        self.environment.update({**host_environment(self.place), **self.told, **away})
        self.environment.update(self.listen)
        self.mpi_args = [*mpirun_arguments(self.place, self.ring), *forwarded(self.environment)]
        if self.listen:  # the daemons that mpirun starts on the hosts by ssh
            words = " ".join(f"{name}={value}" for name, value in self.listen.items())
            self.mpi_args = ["--prtemca", "prte_launch_agent", f"env {words} prted", *self.mpi_args]
        return super().start(n)
