"""`Group`: one running group of ranks, used, signalled, kept and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

import ipyparallel
from ipyparallel import error as ipp_error

from eai_notebook.cluster import rank_requests, registry
from eai_notebook.cluster.client import GroupClient, connection_file
from eai_notebook.cluster.mpirun_output import in_brackets, lost_host, notices_of_parents
from eai_notebook.cluster.process_launchers import output_of, quiet_log
from eai_notebook.cluster.rank_requests import UNREACHABLE, keep_listening
from eai_notebook.cluster.replies import end_bad_replies
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import Lease, Started, end_processes, families, started
from eai_notebook.python_command import module_command
from eai_notebook.telemetry.messages import (
    DIGEST_REQUEST,
    GROW_REQUEST,
    STOP_REQUEST,
    TENSORS_REQUEST,
    TRACE_REQUEST,
    TRIAL_REQUEST,
    TensorsMissing,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from eai_notebook.cluster.launcher import Launcher
    from eai_notebook.cluster.rank_requests import Answers, OnOutput, OnReply

PEERS_S = 1.5
"""How long the peers of a dead rank may take to end by themselves."""
FRESH_S = 12.0
"""How old a report of missing tensors may be; as long as it holds, there is one every ten seconds."""
DEATH_S = 8.0
"""How long ``mpirun`` may take to say who died."""
LOST_S = 20.0
"""The same with ranks on other machines, one of which it may first have to give up."""
SETTLE_S = 3.0
"""How long a nanny may take to deliver a signal."""
_REMEDIES = {
    "in use": "use it there, or end that kernel first",
    "starting": "use it there, or end that kernel first",
    "left behind": "it was started without `--keep`; end it with `eai-notebook reclaim`",
    "ended": "start a new one with `%eai up`",
    "elsewhere": "attach to it on the machine it was started on",
}


class Group:
    """The ranks of one session: an MPI group reached through an ipyparallel client.

    Engine ids are MPI ranks. `group_start.start_group` makes one, `attach` takes over a kept one;
    `stop` ends every process that was started for it, and so does the lease when the kernel is
    gone.
    """

    def __init__(
        self,
        launcher: Launcher,
        cluster: Any,
        client: Any,
        lease: Lease | None,
        entry: registry.Entry,
    ) -> None:
        self.size = entry.size
        self.launcher = launcher
        self.client = client
        self.entry = entry
        self._cluster = cluster
        self._lease = lease
        self.leaving: set[int] = set()
        """The ranks that were asked to leave."""
        self.joining: set[int] = set()
        """The numbers of ranks that were started while the group runs, and have not come in."""
        self._ranks: list[Started] = []
        self._interrupts: list[Future[Any]] = []
        self._is_unreported = False
        """Whether nobody reports deaths any more: ``mpirun`` has ended, and ranks outlive it."""
        end_bad_replies(client)

    @classmethod
    def attach(cls, entry: registry.Entry, launcher: Launcher) -> Group:
        """Take over a kept group that no kernel uses now; it stays kept."""
        if entry.state != "kept":
            what = f"group {entry.name} is {entry.state}"
            raise EaiError(what, _REMEDIES[entry.state], code="group-not-kept")
        file = next((entry.folder / "security").glob("cluster-*.json"))
        cluster = ipyparallel.Cluster.from_file(str(file), log=quiet_log())
        client = GroupClient(connection_file(entry), cluster=cluster, profile_dir=str(entry.folder))
        keep_listening(client)
        entry.owner = started([os.getpid()])[0]
        entry.write()
        launcher.started(entry)
        return cls(launcher, cluster, client, None, entry)

    # -- requests -----------------------------------------------------------------------

    def view(self, ranks: Sequence[int]) -> Any:
        """Return an ipyparallel view on `ranks`."""
        return self.client.direct_view(list(ranks))

    def execute(self, rank: int, code: str, on_output: OnOutput, on_reply: OnReply) -> None:
        """Run `code` as a cell on `rank`; see `rank_requests.execute`."""
        rank_requests.execute(self.client, rank, code, on_output, on_reply)

    def ask_to_leave(self, ranks: Sequence[int]) -> None:
        """Send SIGTERM to `ranks`: one that trains elastically ends at the end of the step."""
        self.leaving |= set(ranks)
        wait_for(self._signal(signal.SIGTERM, ranks), SETTLE_S)

    def where(self, ranks: Sequence[int], patience: float) -> Answers:
        """Return what each of `ranks` is doing; one that does not answer in time is left out."""
        return rank_requests.ask_where(self.client, ranks, patience)

    def tensors_missing(self, ranks: Sequence[int], patience: float) -> list[TensorsMissing]:
        """Return what `ranks`, whose cell may be over, last reported of tensors that are missing."""
        answers = rank_requests.ask(self.client, TENSORS_REQUEST, {}, ranks, patience)
        return [
            TensorsMissing(
                tuple(answer["ring"]),
                {int(rank): tuple(tensors) for rank, tensors in answer["missing"].items()},
            )
            for answer in answers.values()
            if answer["age"] is not None and answer["age"] < FRESH_S
        ]

    def ask_trace(
        self, ranks: Sequence[int], asked: dict[str, int], patience: float
    ) -> dict[int, dict[str, Any]]:
        """Have `ranks` report how fast they go, or record steps; see `engine.control_requests`."""
        return rank_requests.ask(self.client, TRACE_REQUEST, asked, ranks, patience)

    def ask_digest(
        self, ranks: Sequence[int], asked: dict[str, Any], patience: float
    ) -> dict[int, dict[str, Any]]:
        """Have `ranks` report how fast they go, or compare a variable; see `engine.control_requests`."""
        return rank_requests.ask(self.client, DIGEST_REQUEST, asked, ranks, patience)

    def ask_to_stop(self, patience: float) -> bool:
        """Have the training end at a checkpoint; return whether all ranks have heard it."""
        found = rank_requests.ask(self.client, STOP_REQUEST, {}, self.live, patience)
        return len(found) == len(self.live)

    def ask_to_try(self, change: dict[str, Any], patience: float) -> dict[int, dict[str, Any]]:
        """Have the training that goes on try a change; return the ranks' answers."""
        asked = {"change": change}
        return rank_requests.ask(self.client, TRIAL_REQUEST, asked, self.live, patience)

    # -- signals ------------------------------------------------------------------------

    def interrupt(self, ranks: Sequence[int]) -> None:
        """Send SIGINT to `ranks` through their nannies; ``mpirun`` is not signalled."""
        self._interrupts += self._signal(signal.SIGINT, ranks)

    def settle(self) -> None:
        """Return when no interrupt is on its way any more: it was meant for an earlier cell."""
        pending, self._interrupts = self._interrupts, []
        wait_for(pending, SETTLE_S)

    def ask_where(self, ranks: Sequence[int]) -> None:
        """Have `ranks` report where they are, as telemetry of the cell they run."""
        self._signal(signal.SIGUSR1, ranks)

    def _signal(self, number: signal.Signals, ranks: Iterable[int]) -> list[Future[Any]]:
        """Signal those of `ranks` that are still there; return a future for each.

        A rank that is gone is reported elsewhere.
        """
        sent = []
        for rank in ranks:
            with contextlib.suppress(*UNREACHABLE):
                sent.append(self.client.send_signal(number, targets=rank, block=False))
        return sent

    # -- loss ---------------------------------------------------------------------------

    @property
    def missing(self) -> list[int]:
        """The ranks that the controller has given up, which may be before ``mpirun`` ends."""
        known = set(self.client.ids) - self.joining
        return [rank for rank in range(self.size) if rank not in known]

    @property
    def live(self) -> list[int]:
        """The ranks to use: all of a group that ends with its first rank, else those left."""
        if not self.launcher.outlives_deaths:
            return list(range(self.size))
        known = set(self.client.ids) - self.joining
        return [rank for rank in range(self.size) if rank in known]

    @property
    def survives(self) -> bool:
        """Whether it goes on although it may miss ranks."""
        return self.launcher.outlives_deaths and self.is_alive and bool(self.live)

    def deaths(self, ranks: Sequence[int], hosts: Mapping[int, str]) -> str:
        """Return what each of `ranks` died of, as far as it is known, in words.

        A whole host leaves no notice, and ``mpirun``, which ends then, does not always say which one it
        has lost, or notices late that a host is silent. So a host counts as lost that has no rank any
        more, and nobody left to report its ranks' deaths.

        Args:
            ranks: Those that have died.
            hosts: Where ranks are.
        """
        began = time.monotonic()
        left = {rank: f"rank {rank} has left, as it was asked to" for rank in self.leaving}
        while True:
            has_ended = not self._is_launcher_alive
            log = self.log()
            found, host = notices_of_parents(log), lost_host(log)
            # mpirun reports a loss on a busy machine some seconds later.
            is_over = bool(host) or has_ended
            patience = DEATH_S if self.launcher.is_away and not is_over else PEERS_S
            named = all(rank in found or rank in left for rank in ranks)
            if named or time.monotonic() - began > patience:
                break
            time.sleep(0.05)
        empty = set(hosts.values()) - {hosts.get(rank) for rank in self.live}
        lost = {host} | (empty if self.launcher.is_away else set())
        why = "the host {} was lost"
        if self._is_unreported:
            why = "it alone, or the host {}: mpirun, which reports deaths, had ended before"
        unreported = {rank: _unreported(rank, hosts.get(rank), why, lost) for rank in ranks}
        self._is_unreported = has_ended
        return "; ".join({**unreported, **found, **left}[rank] for rank in ranks)

    @property
    def _is_launcher_alive(self) -> bool:
        command = self._cluster.engine_set
        return command is not None and command.state == "running"

    @property
    def is_alive(self) -> bool:
        """Whether ranks are left: ``mpirun`` runs, or they are such that outlive it on their hosts."""
        if self._is_launcher_alive:
            return True
        outlived = self.launcher.outlives_deaths and self.launcher.is_away
        return outlived and self.client is not None and bool(self.live)

    def log(self) -> str:
        """Return what the ranks and ``mpirun`` wrote outside of cells."""
        return output_of(self._cluster)

    def death(self, first: str = "a rank") -> str:
        """Return which rank died and of what, as ``mpirun`` reports it once all are gone.

        A peer that is blocked in an exchange does not notice that it should end, and ``mpirun``
        waits for it before it reports; so such peers are ended here. ``first`` is the rank that was
        missed first, for when nothing more is known.
        """
        begin, ended = time.monotonic(), False
        patience = LOST_S if self.launcher.is_away else DEATH_S
        while not (found := self.launcher.explain_exit(self.log())):
            waited = time.monotonic() - begin
            if waited > patience:
                return f"{first} died, and mpirun gave no reason{in_brackets(self.log())}"
            if waited > PEERS_S and not ended:
                ended = True
                self._end_peers()
            time.sleep(0.05)
        return found

    def _end_peers(self) -> None:
        # Also what a dead rank has started: it holds the pipes that mpirun reads to their end.
        end_processes(families(self._ranks), grace=0.0)
        if self.launcher.is_away and self.client is not None:  # through the nannies of their hosts
            self._signal(signal.SIGKILL, range(self.size))

    # -- growth -------------------------------------------------------------------------

    def start_newcomer(self, number: int, sponsor: int, patience: float) -> dict[str, Any] | None:
        """Have `sponsor` start one more rank; return how that goes, None if it does not answer."""
        self.joining.add(number)
        self.leaving.discard(number)
        file = str(connection_file(self.entry, "engine"))
        words = ["--mpi", f"--IPEngine.url_file={file}", f"--IPEngine.id={number}"]
        command = module_command("eai_notebook.cluster.engine_process", *words)
        asked = {"number": number, "command": command}
        return rank_requests.ask(self.client, GROW_REQUEST, asked, [sponsor], patience).get(sponsor)

    def ask_newcomer(self, number: int, sponsor: int, patience: float) -> dict[str, Any] | None:
        """Return how the start of a newcomer goes, and whether it can join a training now."""
        asked = {"number": number}
        return rank_requests.ask(self.client, GROW_REQUEST, asked, [sponsor], patience).get(sponsor)

    def is_registered(self, number: int) -> bool:
        """Return whether the controller knows the engine of a rank, which may not have come in."""
        return number in self.client.ids

    def admit(self, number: int) -> None:
        """Count a newcomer among the ranks."""
        self.joining.discard(number)
        self.size = self.entry.size = max(self.size, number + 1)
        self.entry.write()

    # -- life ---------------------------------------------------------------------------

    def cover(self, pids: Sequence[int]) -> None:
        """Put ranks of this machine under the lease, in case ``mpirun`` dies first.

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
        """Let the group outlive this process, until a user ends it."""
        self._cluster.shutdown_atexit = False
        self.entry.kept = True
        self.entry.write()
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def note_setup(self, cells: list[tuple[str, list[int] | None]]) -> None:
        """Write down the set-up cells, for a session that attaches to the group later."""
        self.entry.setup = cells
        self.entry.write()

    def stop(self) -> None:
        """End ranks and controller; a second call does nothing."""
        if self.client is None:
            return
        if self.launcher.is_away and self.launcher.outlives_deaths:  # mpirun does not find them
            wait_for(self._signal(signal.SIGKILL, self.live), SETTLE_S)
        client, self.client = self.client, None
        with ending_all(self.entry):
            # the hub may already be gone with the group; closing must go on regardless
            with contextlib.suppress(OSError, ipp_error.EngineError):
                client.close()
            self._cluster.stop_cluster_sync()
        self.launcher.end()
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


def _unreported(rank: int, host: str | None, why: str, lost: Container[str | None]) -> str:
    """Return in words that a rank died of whose death there is no notice."""
    if host is not None and host in lost:
        return f"rank {rank} died: {why.format(host)}"
    return f"rank {rank} on {host} died" if host else f"rank {rank} died"


@contextlib.contextmanager
def ending_all(entry: registry.Entry) -> Iterator[None]:
    """End what is left, after the block, of all that the group's processes had started.

    A rank's nanny is in a session of its own, where ``mpirun`` does not find it, and waits for
    ever if it cannot deliver its last messages.
    """
    known = families(entry.processes)
    try:
        yield
    finally:
        end_processes(known)
