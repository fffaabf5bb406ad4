"""One running group of engines: started, reached, signalled, stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for
from functools import partial
from typing import TYPE_CHECKING, Any

import ipyparallel
import zmq
from ipyparallel import error as ipp_error
from tornado.ioloop import PeriodicCallback
from traitlets.config import Config

from eai_notebook.cluster import registry
from eai_notebook.cluster.client import GroupClient, connection_file
from eai_notebook.cluster.delivery import key_files
from eai_notebook.cluster.interruptible import never, run_interruptible
from eai_notebook.cluster.launchers.local import CONTROLLER, find_mpirun
from eai_notebook.cluster.mpirun_output import (
    cause_of_death,
    explain,
    lost_host,
    read_output,
    start_remedy,
)
from eai_notebook.cluster.replies import end_bad_replies
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import Lease, Started, end_processes, families, started
from eai_notebook.telemetry.messages import (
    TENSORS_REQUEST,
    TRACE_REQUEST,
    WHERE_REQUEST,
    TensorsMissing,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from eai_notebook.cluster.preflight import Placement

START_TIMEOUT_S = 120.0
HEARING_MS = 50.0
PEERS_S = 1.5
"""How long the peers of a dead rank may take to end by themselves."""
FRESH_S = 12.0
"""How old a report of missing tensors may be; as long as it holds, there is one every ten seconds."""

DEATH_S = 8.0
"""How long ``mpirun`` may take to say who died."""
LOST_S = 20.0
"""The same with several hosts, where it may first have to give one of them up."""
SETTLE_S = 3.0
"""How long a nanny may take to deliver a signal."""
_REMEDIES = {
    "in use": "use it there, or end that kernel first",
    "starting": "use it there, or end that kernel first",
    "left behind": "it was started without `--keep`; end it with `eai-notebook reclaim`",
    "ended": "start a new one with `%eai up`",
    "elsewhere": "attach to it on the machine it was started on",
}

UNREACHABLE = (LookupError, ipp_error.NoEnginesRegistered)
"""What the client raises for a rank that the controller has given up."""

Progress = Callable[[str], None]
OnOutput = Callable[[str, dict[str, Any]], None]
OnReply = Callable[[Any], None]
Answers = dict[int, dict[str, Any] | None]
"""What each rank that answered is doing: the fields of a `StackLocation`, None between cells."""


class Group:
    """The engines of one session: an MPI group reached through an ipyparallel client.

    Engine ids are MPI ranks. `Group.start` is the only way to make one; `stop` ends
    every process it started, and so does the lease when the kernel is gone.
    """

    def __init__(
        self,
        size: int,
        cluster: Any,
        client: Any,
        lease: Lease | None,
        entry: registry.Entry,
        *,
        elsewhere: bool = False,
    ) -> None:
        self.size = size
        self.client = client
        self.entry = entry
        self._cluster = cluster
        self._lease = lease
        self._elsewhere = elsewhere
        self._ranks: list[Started] = []
        self._interrupts: list[Future[Any]] = []
        end_bad_replies(client)

    @classmethod
    def start(
        cls,
        size: int,
        launcher: str,
        progress: Progress,
        place: Placement | None = None,
        ring: Mapping[str, str] | None = None,
        told: Mapping[str, str] | None = None,
        is_stopped: Callable[[], bool] = never,
    ) -> Group:
        """Start `size` engines; on any failure or interrupt nothing is left running.

        With a `place` they go to its hosts, and exchange as the MCA parameters in `ring`
        and the variables they are `told` say. `is_stopped` is asked now and then whether to
        stop, as by an interrupt.
        """
        find_mpirun()
        work = partial(cls._start, size, launcher, place=place, ring=ring, told=told)
        try:
            return run_interruptible(partial(_twice, work), progress, is_stopped)
        except OSError as error:  # of a file or a process that the start needs
            raise EaiError(f"the group could not start ({error})", start_remedy()) from error

    @classmethod
    def _start(
        cls,
        size: int,
        launcher: str,
        progress: Progress,
        *,
        place: Placement | None,
        ring: Mapping[str, str] | None,
        told: Mapping[str, str] | None,
    ) -> Group:
        lease = Lease()
        # No parent and no profile: the user's ipyparallel settings are for their own clusters.
        # The folder of its own, with its keys and logs, goes when the group goes.
        entry = registry.register(size)
        folder = str(entry.folder)
        lease.cover_folder(folder)
        cluster = ipyparallel.Cluster(
            controller=CONTROLLER,
            engines=launcher,
            n=size,
            delay=0,
            config=_settings_of(place, ring or {}, told or {}),
            send_engines_connection_env=False,  # mpirun would send the keys over the network
            profile_dir=folder,
            load_profile=False,
            log=_quiet_log(),
            **_guarded(place),
        )
        client = None
        try:
            progress("starting the controller")
            _start_controller(cluster)
            entry.processes = lease.cover([cluster.controller.process.pid])
            entry.write()
            with key_files(entry, place) as settings:
                _start_engines(cluster, settings)
                entry.processes += lease.cover([cluster.engine_set.process.pid])
                entry.write()
                client = GroupClient(connection_file(entry), cluster=cluster, profile_dir=folder)
                keep_hearing(client)
                _wait_for_engines(cluster, client, size, progress)
            group = cls(size, cluster, client, lease, entry, elsewhere=place is not None)
        except BaseException:
            with _ending_all(entry):
                if client is not None:
                    client.close()
                cluster._in_thread(cluster.stop_cluster)  # noqa: SLF001
            lease.end()
            raise
        return group

    @property
    def missing(self) -> list[int]:
        """The ranks that the controller has given up, which may be before ``mpirun`` ends."""
        known = set(self.client.ids)
        return [rank for rank in range(self.size) if rank not in known]

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
        """Put engines of this machine under the lease, in case ``mpirun`` dies first.

        Those of other hosts must not be named here: their numbers mean other processes.
        On each host, ``mpirun``'s daemon ends them when it loses ``mpirun``.
        """
        self._ranks = started(pids) if self._lease is None else self._lease.cover(pids)
        known = self.entry.processes
        known += [process for process in self._ranks if process not in known]
        self.entry.write()

    @property
    def local_pids(self) -> list[int]:
        """The processes of the ranks on this machine."""
        return [pid for pid, _ in self._ranks]

    def keep(self) -> None:
        """Let the group outlive this process, until somebody ends it."""
        self._cluster.shutdown_atexit = False
        self.entry.kept = True
        self.entry.write()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def note_setup(self, cells: list[tuple[str, list[int] | None]]) -> None:
        """Write down the set-up cells, for whoever attaches to the group later."""
        self.entry.setup = cells
        self.entry.write()

    @classmethod
    def attach(cls, entry: registry.Entry) -> Group:
        """Take over a kept group that nobody uses now; it stays kept."""
        if entry.state != "kept":
            raise EaiError(f"group {entry.name} is {entry.state}", _REMEDIES[entry.state])
        file = next((entry.folder / "security").glob("cluster-*.json"))
        cluster = ipyparallel.Cluster.from_file(str(file), log=_quiet_log())
        client = GroupClient(connection_file(entry), cluster=cluster, profile_dir=str(entry.folder))
        keep_hearing(client)
        entry.owner = started([os.getpid()])[0]
        entry.write()
        return cls(entry.size, cluster, client, None, entry)

    def interrupt(self, ranks: Sequence[int]) -> None:
        """Send SIGINT to `ranks` through their nannies; ``mpirun`` is not signalled."""
        self._interrupts += self._signal(signal.SIGINT, ranks)

    def settle(self) -> None:
        """Return when no interrupt is on its way any more: it was meant for an earlier cell."""
        pending, self._interrupts = self._interrupts, []
        wait_for(pending, SETTLE_S)

    def ask_where(self, ranks: Sequence[int]) -> None:
        """Have `ranks` say where they are, as telemetry of the cell they run."""
        self._signal(signal.SIGUSR1, ranks)

    def where(self, ranks: Sequence[int], patience: float) -> Answers:
        """Return what each of `ranks` is doing; one that says nothing in time is left out."""
        return _ask_where(self.client, ranks, patience)

    def tensors_missing(self, ranks: Sequence[int], patience: float) -> list[TensorsMissing]:
        """Return what `ranks`, whose cell may be over, last heard of tensors that are missing."""
        answers = _ask(self.client, TENSORS_REQUEST, {}, ranks, patience)
        return [
            TensorsMissing(
                tuple(said["ring"]),
                {int(rank): tuple(tensors) for rank, tensors in said["missing"].items()},
            )
            for said in answers.values()
            if said["age"] is not None and said["age"] < FRESH_S
        ]

    def ask_trace(
        self, ranks: Sequence[int], asked: dict[str, int], patience: float
    ) -> dict[int, dict[str, Any]]:
        """Have `ranks` say how fast they go, or record steps in depth; see `engine.answers`."""
        return _ask(self.client, TRACE_REQUEST, asked, ranks, patience)

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
        patience = LOST_S if self._elsewhere else DEATH_S
        while not (found := cause_of_death(self.log())):
            waited = time.monotonic() - begin
            if host := lost_host(self.log()):
                return f"the host {host} was lost (it went down, or its network did)"
            if waited > patience:
                return f"{first} died, and mpirun did not say of what{_in_brackets(self.log())}"
            if waited > PEERS_S and not ended:
                ended = True
                self._end_peers()
            time.sleep(0.05)
        return found

    def _end_peers(self) -> None:
        # Also what a dead rank has started: it holds the pipes that mpirun reads to their end.
        end_processes(families(self._ranks), grace=0.0)
        if self._elsewhere and self.client is not None:  # through the nannies of their hosts
            self._signal(signal.SIGKILL, range(self.size))

    def _signal(self, number: signal.Signals, ranks: Iterable[int]) -> list[Future[Any]]:
        """Signal those of `ranks` that are still there, and return what tells when it is done.

        Who is gone is told of elsewhere.
        """
        sent = []
        for rank in ranks:
            with contextlib.suppress(*UNREACHABLE):
                sent.append(self.client.send_signal(number, targets=rank, block=False))
        return sent

    def log(self) -> str:
        """Return what the engines and ``mpirun`` wrote outside of cells."""
        return _log_of(self._cluster)

    def stop(self) -> None:
        """End engines and controller; a second call does nothing."""
        if self.client is None:
            return
        client, self.client = self.client, None
        with _ending_all(self.entry):
            # the hub may already be gone with the group; closing must go on regardless
            with contextlib.suppress(OSError, ipp_error.EngineError):
                client.close()
            self._cluster.stop_cluster_sync()
        if self._lease is None:
            registry.reclaim(self.entry)
        else:
            self._lease.end()

    def leave(self) -> None:
        """Let go of a kept group without ending it."""
        self.entry.owner = None
        self.entry.write()
        client, self.client = self.client, None
        with contextlib.suppress(OSError, ipp_error.EngineError):
            client.close()


@contextlib.contextmanager
def _ending_all(entry: registry.Entry) -> Iterator[None]:
    """End what is left, after the block, of all that the group's processes had started.

    A rank's nanny is in a session of its own, where ``mpirun`` does not find it, and waits for
    ever if it cannot deliver its last messages.
    """
    known = families(entry.processes)
    try:
        yield
    finally:
        end_processes(known)


def ask_where(entry: registry.Entry, patience: float) -> Answers:
    """Ask the ranks of a group that another process uses where they are."""
    client = GroupClient(connection_file(entry))
    try:
        return _ask_where(client, range(entry.size), patience)
    finally:
        client.close()


def _ask_where(client: Any, ranks: Iterable[int], patience: float) -> Answers:
    found = _ask(client, WHERE_REQUEST, {}, ranks, patience)
    return {rank: content["where"] for rank, content in found.items()}


def _ask(
    client: Any, kind: str, asked: dict[str, int], ranks: Iterable[int], patience: float
) -> dict[int, dict[str, Any]]:
    """Ask on the control channel, which a rank answers beside its cell."""
    futures = {}
    for rank in ranks:
        channel = client._control_stream  # noqa: SLF001
        with contextlib.suppress(*UNREACHABLE):
            ident = client._build_targets(rank)[0][0]  # noqa: SLF001
            futures[rank] = client._send(channel, kind, content=asked, ident=ident)  # noqa: SLF001
    deadline = time.monotonic() + patience
    found = {}
    for rank, future in futures.items():
        with contextlib.suppress(TimeoutError, FutureTimeout):
            reply = future.result(timeout=max(0.0, deadline - time.monotonic()))
            found[rank] = reply["content"]
    return found


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


class _NoControllerError(EaiError):
    """The controller ended before it could be reached."""


def _start_controller(cluster: Any) -> None:
    """Start the controller; raise if it does not live until others can connect."""
    try:
        cluster._in_thread(cluster.start_controller)  # noqa: SLF001  # its loop must go on
        cluster._in_thread(cluster.controller.get_connection_info)  # noqa: SLF001
    except (RuntimeError, TimeoutError) as error:
        what = f"the controller did not start ({error})"
        raise _NoControllerError(what, "run `eai-notebook check`") from error


def _start_engines(cluster: Any, settings: Mapping[str, Any]) -> None:
    """Start the engines, by a launcher with these `settings` beside the cluster's own."""
    cluster._in_thread(partial(cluster.start_engines, **settings))  # noqa: SLF001


def _twice(start: Callable[[Progress], Group], say: Progress) -> Group:
    """Start a group, and once more if its controller ended at once.

    It takes ports that it has found free a moment before: of two that start together on one
    machine, one may come late.
    """
    try:
        return start(say)
    except _NoControllerError:
        say("starting the controller once more")
        return start(say)


def _wait_for_engines(cluster: Any, client: Any, size: int, progress: Progress) -> None:
    """Return when all engines have registered; raise if they cannot."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (count := len(client.ids)) < size:
        progress(f"{count} of {size} ranks are up")
        if cluster.engine_set.state == "after":
            raise _start_failure(cluster, "mpirun ended before all ranks were up")
        if time.monotonic() > deadline:
            raise _start_failure(cluster, f"only {count} of {size} ranks were up in time")
        time.sleep(0.02)
    progress(f"{size} of {size} ranks are up")


def _start_failure(cluster: Any, what: str) -> EaiError:
    """Name the last words of ``mpirun``, which usually say what is wrong."""
    return EaiError(what + _in_brackets(_log_of(cluster)), start_remedy())


def _log_of(cluster: Any) -> str:
    """Return what the engines and ``mpirun`` of `cluster` wrote outside of cells."""
    engine_set = cluster.engine_set
    if engine_set is None:
        return ""
    try:
        return read_output(engine_set.output_file)
    except OSError:  # read and removed by ipyparallel when mpirun had ended
        return str(engine_set.get_output())


def _in_brackets(log: str) -> str:
    """Return what `log` explains, in brackets; nothing if it explains nothing."""
    words = explain(log)
    return f" ({words})" if words else ""


def _settings_of(
    place: Placement | None, ring: Mapping[str, str], told: Mapping[str, str]
) -> Config:
    """Return what is started as controller and engines, and where engines on hosts go."""
    settings = Config()
    if place is None:
        return settings
    settings.HostsEngineSetLauncher.place = place
    settings.HostsEngineSetLauncher.ring = dict(ring)
    settings.HostsEngineSetLauncher.told = dict(told)
    return settings


def _guarded(place: Placement | None) -> dict[str, Any]:
    """Return how a controller listens: on one interface, and to whoever has the group's keys.

    CurveZMQ encrypts and authenticates, on one machine as well: its other users reach loopback,
    too. A rank on another host that is silent for ten seconds is gone.
    """
    if place is None:
        return {"controller_args": ["--IPController.enable_curve=True"]}
    return {
        "controller_ip": place.controller,
        "controller_args": [
            "--IPController.enable_curve=True",
            "--HeartMonitor.period=1000",
            "--HeartMonitor.max_heartmonitor_misses=10",
        ],
    }


def _quiet_log() -> logging.Logger:
    """Ipyparallel would print its every step into the notebook."""
    log = logging.getLogger("eai_notebook.cluster")
    log.setLevel(logging.ERROR)
    return log
