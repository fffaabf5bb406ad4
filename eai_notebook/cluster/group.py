"""One running group of engines: started, reached, signalled, stopped."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipyparallel
import zmq
from ipyparallel import error as ipp_error
from tornado.ioloop import PeriodicCallback
from traitlets.config import Config

from eai_notebook.cluster.lease import Lease, end_processes
from eai_notebook.cluster.local import find_mpirun
from eai_notebook.errors import EaiError

START_TIMEOUT_S = 120.0
HEARING_MS = 50.0
PEERS_S = 1.5
"""How long the peers of a dead rank may take to end by themselves."""
DEATH_S = 8.0
"""How long ``mpirun`` may take to say who died."""
_DEATH = re.compile(
    r"process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+)\s+exited on\s+"
    r"signal (?P<signal>\d+)|"
    r"Process name: \[\S+,(?P<rank2>\d+)\]\s+Exit code:\s+(?P<code>\d+)",
)

Progress = Callable[[str], None]
OnOutput = Callable[[str, dict[str, Any]], None]
OnReply = Callable[[Any], None]


class Group:
    """The engines of one session: an MPI group reached through an ipyparallel client.

    Engine ids are MPI ranks. `Group.start` is the only way to make one; `stop` ends
    every process it started, and so does the lease when the kernel is gone.
    """

    def __init__(self, size: int, cluster: Any, client: Any, lease: Lease) -> None:
        self.size = size
        self.client = client
        self._cluster = cluster
        self._lease = lease
        self._ranks: list[tuple[int, float]] = []

    @classmethod
    def start(cls, size: int, launcher: str, progress: Progress) -> Group:
        """Start `size` engines; on any failure or interrupt nothing is left running."""
        find_mpirun()
        lease = Lease()
        # No parent and no profile: the user's ipyparallel settings are for their own clusters.
        # The folder of its own, with its keys and logs, goes when the group goes.
        folder = tempfile.mkdtemp(prefix="eai-group-")
        lease.cover_folder(folder)
        cluster = ipyparallel.Cluster(
            engines=launcher,
            n=size,
            delay=0,
            config=Config(),
            profile_dir=folder,
            load_profile=False,
            log=_quiet_log(),
        )
        client = None
        try:
            progress("starting the controller")
            cluster.start_cluster_sync()
            lease.cover([cluster.controller.process.pid, cluster.engine_set.process.pid])
            client = cluster.connect_client_sync()
            keep_hearing(client)
            _wait_for_engines(cluster, client, size, progress)
            group = cls(size, cluster, client, lease)
        except BaseException:
            if client is not None:
                client.close()
            cluster.stop_cluster_sync()
            lease.end()
            raise
        return group

    def view(self, ranks: Sequence[int]) -> Any:
        """Return an ipyparallel view on `ranks`."""
        return self.client.direct_view(list(ranks))

    def execute(self, rank: int, code: str, on_output: OnOutput, on_reply: OnReply) -> None:
        """Run `code` as a cell on `rank`; both callbacks come from the client's own thread.

        ``on_output(kind, content)`` hears what the cell says, ``"idle"`` last;
        ``on_reply(error)`` hears of its end, with None when all went well. They are set
        before the request leaves, so that nothing is missed.
        """
        client = self.client
        idents, _ = client._build_targets(rank)  # noqa: SLF001  # the public way sets callbacks late

        def watch(future: Any) -> None:
            said = client.metadata[future.msg_id]
            future.iopub_callbacks.append(lambda message: _relay(message, said, on_output))
            future.add_done_callback(lambda done: on_reply(_error_of(done.result())))
            # the client forgets a request that is complete before it tells of its last message
            future.output.add_done_callback(lambda _: on_output("idle", {}))

        client.send_execute_request(
            client._mux_socket,  # noqa: SLF001
            code,
            silent=False,
            ident=idents[0],
            message_future_hook=watch,
        )
        client._io_loop.add_callback(lambda: _hear(client))  # noqa: SLF001  # after the send itself

    def cover(self, pids: Sequence[int]) -> None:
        """Put the engines themselves under the lease, in case ``mpirun`` dies first."""
        self._ranks = self._lease.cover(pids)

    def interrupt(self, ranks: Sequence[int]) -> None:
        """Send SIGINT to `ranks` through their nannies; ``mpirun`` is not signalled."""
        self.client.send_signal(signal.SIGINT, targets=list(ranks), block=False)

    def ask_where(self, ranks: Sequence[int]) -> None:
        """Have `ranks` say where they are, as telemetry of the cell they run."""
        self.client.send_signal(signal.SIGUSR1, targets=list(ranks), block=False)

    @property
    def is_alive(self) -> bool:
        """Whether ``mpirun`` still runs; it ends when any rank dies."""
        engine_set = self._cluster.engine_set
        return engine_set is not None and engine_set.state == "running"

    def death(self, first: str = "a rank") -> str:
        """Say which rank died and of what, as ``mpirun`` reports it once all are gone.

        A peer that is blocked in an exchange does not hear that it should end, and
        ``mpirun`` waits for it before it speaks; so such peers are ended here. ``first``
        is the rank that was missed first, for when nothing more is known.
        """
        begin, ended = time.monotonic(), False
        while not (found := _DEATH.search(self.log())):
            waited = time.monotonic() - begin
            if waited > DEATH_S:
                return f"{first} died, and mpirun did not say of what{_last_words(self.log())}"
            if waited > PEERS_S and not ended:
                ended = True
                end_processes(self._ranks, grace=0.0)
            time.sleep(0.05)
        rank = found["rank"] or found["rank2"]
        if found["signal"]:
            name = signal.Signals(int(found["signal"])).name
            return f"rank {rank} on {found['host']} died of {name}"
        return f"rank {rank} ended with exit code {found['code']}"

    def log(self) -> str:
        """Return what the engines and ``mpirun`` wrote outside of cells."""
        engine_set = self._cluster.engine_set
        if engine_set is None:
            return ""
        try:
            return Path(engine_set.output_file).read_text(errors="replace")
        except FileNotFoundError:  # read and removed by ipyparallel when mpirun had ended
            return str(engine_set.get_output())

    def stop(self) -> None:
        """End engines and controller; a second call does nothing."""
        if self.client is None:
            return
        client, self.client = self.client, None
        # the hub may already be gone with the group; closing must go on regardless
        with contextlib.suppress(OSError, ipp_error.EngineError):
            client.close()
        self._cluster.stop_cluster_sync()
        self._lease.end()


def keep_hearing(client: Any) -> None:
    """Look for replies now and then, whether or not the client was told of any.

    ZeroMQ tells of new messages once, by an edge. The client sends on sockets that its
    event loop listens on, and a send can swallow the edge of a reply that arrives at
    the same moment: the reply then lies there unread and its request never ends. With
    two ranks this struck once in some five hundred cells.
    """

    def start() -> None:
        PeriodicCallback(lambda: _hear(client), HEARING_MS).start()

    client._io_loop.add_callback(start)  # noqa: SLF001  # the client has no public loop


def _hear(client: Any) -> None:
    for stream in (client._mux_stream, client._iopub_stream, client._control_stream):  # noqa: SLF001
        if not stream.closed():
            stream.flush(zmq.POLLIN)


def _relay(message: Any, said: Any, on_output: OnOutput) -> None:
    """Pass a message on, and let go of what the client would keep of it for ever."""
    kind, content = message["header"]["msg_type"], message["content"]
    if kind == "data_message":
        kind, content = "data", dict(said["data"])
        said["data"].clear()
    elif kind == "stream":
        said[content["name"]] = ""
    elif kind == "display_data":
        said["outputs"].clear()
    on_output(kind, content)


def _error_of(result: Any) -> Any:
    """Return the remote error that `result` is, or None if the cell went well."""
    return result if isinstance(result, BaseException) else None


def _wait_for_engines(cluster: Any, client: Any, size: int, progress: Progress) -> None:
    """Return when all engines have registered; raise if they cannot."""
    deadline = time.monotonic() + START_TIMEOUT_S
    seen = -1
    while (count := len(client.ids)) < size:
        if count != seen:
            seen = count
            progress(f"{count} of {size} ranks are up")
        if cluster.engine_set.state == "after":
            raise _start_failure(cluster, "mpirun ended before all ranks were up")
        if time.monotonic() > deadline:
            raise _start_failure(cluster, f"only {count} of {size} ranks were up in time")
        time.sleep(0.02)
    progress(f"{size} of {size} ranks are up")


def _start_failure(cluster: Any, what: str) -> EaiError:
    """Name the last words of ``mpirun``, which usually say what is wrong."""
    output = Path(cluster.engine_set.output_file)
    text = output.read_text(errors="replace") if output.exists() else ""
    return EaiError(what + _last_words(text), "run `eai-notebook check`")


def _last_words(log: str) -> str:
    """Return the last line of `log` that holds a word, in brackets; nothing if none does."""
    lines = [line.strip() for line in log.splitlines() if re.search(r"[A-Za-z]{3}", line)]
    return f" ({lines[-1]})" if lines else ""


def _quiet_log() -> logging.Logger:
    """Ipyparallel would print its every step into the notebook."""
    log = logging.getLogger("eai_notebook.cluster")
    log.setLevel(logging.ERROR)
    return log
