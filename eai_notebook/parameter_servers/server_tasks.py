"""TensorFlow's parameter-server tasks, started in the ranks' own processes.

In the ranks' processes they read a rank's data, also with Python functions, on that rank, and end
with it. Rank 0 coordinates. TensorFlow's servers accept requests without a key, on loopback or on
the group's network: use them in networks you trust, see docs/security.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from eai_notebook import collective
from eai_notebook.collective.network_address import own_address
from eai_notebook.errors import EaiError
from eai_notebook.parameter_servers.server_layout import Layout, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator


_NETWORKS: Final = "OMPI_MCA_btl_tcp_if_include"
"""The variable in which mpirun passes the networks of the group to a rank."""


class ParameterServers:
    """The servers of this group; `start` creates the one instance of a process."""

    def __init__(self, layout: Layout, coordinator: Any, *, asynchronous: bool) -> None:
        self.layout = layout
        self.coordinator = coordinator
        """TensorFlow's ``ClusterCoordinator`` on rank 0, None on the others."""
        self.asynchronous = asynchronous
        self.step_seconds: list[float] = []
        """Duration of each synchronous step of the latest training, on rank 0."""


_current: ParameterServers | None = None


def current() -> ParameterServers | None:
    """Return this group's parameter servers; None in a group that uses the ring."""
    return _current


def start(servers: int, *, apart: bool = False, asynchronous: bool = False) -> ParameterServers:
    """Start `servers` parameter servers in this group; every rank must call it.

    Call it before creating variables: the servers' devices replace this process's own, and older
    variables cannot be read afterwards.

    Args:
        servers: Number of ranks that hold weights.
        apart: These ranks, the last ones, are servers only; otherwise they also compute.
        asynchronous: Workers do not wait for each other, and update weights that others read.

    Raises:
        EaiError: Servers are running already, or there are too few ranks.
    """
    global _current
    if _current is not None:
        raise EaiError(
            "this group has parameter servers already",
            "`%eai restart` first",
            code="servers-running",
        )
    collective.ensure_formed()
    layout = lay_out(collective.size(), servers, apart=apart)
    cluster = _addresses(layout)
    with _listening_on(_own_address()):
        _serve(layout, cluster)
        collective.barrier()
        coordinator = _coordinate(cluster) if collective.rank() == 0 else None
    _current = ParameterServers(layout, coordinator, asynchronous=asynchronous)
    return _current


def _addresses(layout: Layout) -> dict[str, list[str]]:
    """Return the addresses of all tasks: a free port on each rank for each of its tasks."""
    here = _own_address()
    with socket.create_server((here, 0)) as one, socket.create_server((here, 0)) as two:
        mine = [f"{here}:{socket_.getsockname()[1]}" for socket_ in (one, two)]
    every = [collective.broadcast_object(mine, root) for root in range(collective.size())]
    return {
        "worker": [every[rank][0] for rank in layout.workers],
        "ps": [every[rank][1] for rank in layout.servers],
    }


def _own_address() -> str:
    """Return this rank's address in the group's network; loopback on one machine."""
    networks = [name for name in os.environ.get(_NETWORKS, "").split(",") if _is_network(name)]
    return own_address(networks) if networks else "127.0.0.1"


@contextlib.contextmanager
def _listening_on(address: str) -> Iterator[None]:
    """Make this process listen on `address` where it would listen on all interfaces.

    TensorFlow's servers always listen on all. This needs the library that a group preloads
    (`cluster.listening`); without it, as in a job under ``mpirun``, they listen on every interface.
    """
    listen_on = getattr(ctypes.CDLL(None), "eai_listen_on", None)
    if listen_on is None:
        yield
        return
    listen_on(f"{address}/32".encode())
    try:
        yield
    finally:
        listen_on(b"")


def _is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name)
    except ValueError:
        return False
    return True


def _serve(layout: Layout, cluster: dict[str, list[str]]) -> None:
    """Start this rank's tasks; they run until the process ends."""
    import tensorflow as tf

    spec, me = tf.train.ClusterSpec(cluster), collective.rank()
    # A task blocks one thread for every other task, and needs one more to make progress.
    threads = len(layout.workers) + len(layout.servers) + 2
    settings = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=threads)
    for job, ranks in (("ps", layout.servers), ("worker", layout.workers)):
        if me in ranks:
            task = ranks.index(me)
            _kept.append(tf.distribute.Server(spec, job, task, protocol="grpc", config=settings))


_kept: list[Any] = []


def _coordinate(cluster: dict[str, list[str]]) -> Any:
    """Connect this process to all tasks, as TensorFlow's own tutorial does."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), rpc_layer="grpc"
    )
    with quiet():
        strategy = tf.distribute.ParameterServerStrategy(resolver)
        return tf.distribute.coordinator.ClusterCoordinator(strategy)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress TensorFlow's log lines about addresses and about every step."""
    import tensorflow as tf

    log = tf.get_logger()
    level = log.level
    log.setLevel("WARNING")
    try:
        yield
    finally:
        log.setLevel(level)
