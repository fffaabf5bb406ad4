"""TensorFlow's parameter-server tasks, started in the ranks' own processes.

They are in the ranks' processes so that a rank's data, also one with Python inside, is
read where the rank is, and so that they end with the rank. Rank 0 coordinates.
TensorFlow's servers take requests without a key, on loopback or on the group's network: use them
in networks you trust, see docs/security.md.
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
"""Where mpirun tells a rank the networks of its group."""


class ParameterServers:
    """The servers of this group; `start` makes the one a process has."""

    def __init__(self, layout: Layout, coordinator: Any, *, asynchronous: bool) -> None:
        self.layout = layout
        self.coordinator = coordinator
        """TensorFlow's ``ClusterCoordinator`` on rank 0, None on the others."""
        self.asynchronous = asynchronous
        self.step_seconds: list[float] = []
        """How long each synchronous step of the latest training took, on rank 0."""


_current: ParameterServers | None = None


def current() -> ParameterServers | None:
    """Return this group's parameter servers; None where the ring is used."""
    return _current


def start(servers: int, *, apart: bool = False, asynchronous: bool = False) -> ParameterServers:
    """Make this group one with `servers` parameter servers; every rank must call it.

    Before any variable is made: connecting to the servers takes the place of this
    process's own devices. Variables that were there before cannot be read afterwards.

    Args:
        servers: How many ranks hold weights.
        apart: These ranks, the last ones, do nothing else; otherwise they compute, too.
        asynchronous: Each worker goes on alone, and updates weights that others read.

    Raises:
        EaiError: There are servers already, or not so many ranks.
    """
    global _current
    if _current is not None:
        raise EaiError("this group has parameter servers already", "`%eai restart` first")
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
    """Return where each task is: a free port on each rank for each of its tasks."""
    here = _own_address()
    with socket.create_server((here, 0)) as one, socket.create_server((here, 0)) as two:
        mine = [f"{here}:{door.getsockname()[1]}" for door in (one, two)]
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
    """Have this process listen on `address` where it asks for any: TensorFlow's servers always do.

    That needs the library that a group preloads (`cluster.listening`); without it, such as in a
    job of one's own under ``mpirun``, they listen on every interface.
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
    # A task waits inside its threads for every other one, and must have one to go on with.
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
    """Leave out what TensorFlow says of addresses, and of every single step."""
    import tensorflow as tf

    log = tf.get_logger()
    level = log.level
    log.setLevel("WARNING")
    try:
        yield
    finally:
        log.setLevel(level)
