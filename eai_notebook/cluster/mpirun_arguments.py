"""The arguments with which ``mpirun`` puts ranks on other hosts by ssh, and their environment."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from eai_notebook.cluster import remote_python
from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eai_notebook.cluster.preflight import Placement

_LOST = {"time": "4", "intvl": "2", "probes": "3"}
"""After so many silent seconds, and so many probes so many seconds apart, mpirun and a host
give each other up: a pulled cable sends no word. Open MPI's own default is eight minutes."""

_ABORT_DELAY_S = "3"
"""A rank whose peer is gone aborts the group; it waits, so that mpirun hears first of what the
peer died."""


def mpirun_arguments(
    placement: Placement, ring: Mapping[str, str], *, elastic: bool = False
) -> list[str]:
    """Return the arguments of ``mpirun`` that put ranks on the hosts of `placement`.

    ``ring`` are the MCA parameters of the chosen allreduce algorithms. The ranks of an ``elastic``
    group exchange by TCP also where there is a fabric: no other transport reports a dead peer.
    """
    hosts = ",".join(f"{host.name}:{host.slots}" for host in placement.hosts)
    words = ["--host", hosts, "--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]
    words += ["--prefix", str(Path(find_mpirun()).resolve().parent.parent)]
    words += ["--wdir", str(Path.cwd())]
    words += ["--prtemca", "plm_ssh_agent", shlex.join(remote_python.ssh_command())]
    fabric = placement.fabric and not elastic
    words += network_arguments(",".join(placement.networks), fabric=fabric)
    for name, value in ring.items():
        words += ["--mca", name, value]
    return words


def daemon_arguments(listen: Mapping[str, str]) -> list[str]:
    """Return the arguments that have ``mpirun`` start its daemons on hosts with some variables.

    ``listen`` are those that restrict where programs listen; without them there are no arguments.
    """
    if not listen:
        return []
    words = " ".join(f"{name}={value}" for name, value in listen.items())
    return ["--prtemca", "prte_launch_agent", f"env {words} prted"]


def network_arguments(networks: str, *, fabric: bool) -> list[str]:
    """Return the arguments that keep ``mpirun`` and TCP between ranks on `networks`."""
    words = ["--prtemca", "prte_if_include", networks]
    for what, value in _LOST.items():
        words += ["--prtemca", f"oob_tcp_keepalive_{what}", value]
    parameters = {"btl_tcp_if_include": networks, "mpi_abort_delay": _ABORT_DELAY_S}
    if not fabric:
        # Other transports would be tried first, each with an idea of its own of the way.
        parameters |= {"pml": "ob1", "btl": "tcp,self,sm"}
    for name, value in parameters.items():
        words += ["--mca", name, value]
    return words


def host_environment(placement: Placement) -> dict[str, str]:
    """Return the environment of ranks that share a host of `placement` among themselves."""
    return rank_environment(placement.most_slots, placement.cores)
