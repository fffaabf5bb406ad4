"""The ssh launcher: ranks on several hosts under one ``mpirun`` on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from eai_notebook.cluster import elastic_options
from eai_notebook.cluster.allreduce_tuning import algorithm_choice
from eai_notebook.cluster.delivery import key_files
from eai_notebook.cluster.forwarding import forwarded
from eai_notebook.cluster.hostfile import parse_hosts
from eai_notebook.cluster.launcher import INTERFACE, Launcher, Option
from eai_notebook.cluster.mpi_environment import AWAY, find_mpirun
from eai_notebook.cluster.mpirun_arguments import (
    daemon_arguments,
    host_environment,
    mpirun_arguments,
)
from eai_notebook.cluster.mpirun_output import cause_of_death, lost_host
from eai_notebook.cluster.preflight import Placement, prepare
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eai_notebook.cluster.interruptible import Progress
    from eai_notebook.cluster.registry import Entry


class SshLauncher(Launcher):
    """Ranks on hosts that ssh reaches, with the allreduce algorithms that are best between them."""

    name: ClassVar[str] = "ssh"
    options: ClassVar[tuple[Option, ...]] = (
        Option("hosts", "on other machines by ssh: h1:2,h2:2, or a hostfile", metavar="HOSTS"),
        INTERFACE,
        Option("measure_again", "measure the link anew, not as kept", flag=True),
        elastic_options.ELASTIC,
        elastic_options.LEAST,
    )
    selected_by: ClassVar[str | None] = "hosts"
    is_away: ClassVar[bool] = True

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        self._hosts = parse_hosts(options.get("hosts", ""))
        self._measure_again = bool(options.get("measure_again"))
        super().__init__(size, options)
        elastic_options.check(self.given, self.size)
        self._placement: Placement | None = None
        self._ring: dict[str, str] = {}
        self._listen: dict[str, str] = {}
        self.ring_choice: algorithm_choice.AllreduceChoice | None = None
        """The allreduce algorithms that were chosen; None before `prepare`, or without a choice."""

    def choose_size(self, size: int | None) -> int:
        """Return the number of slots; another number is refused."""
        slots = sum(host.slots for host in self._hosts)
        if size is not None and size != slots:
            raise EaiError(
                f"{size} ranks were asked for, but the hosts have {slots} slots",
                "leave the number out, or change the slots: `h1:2,h2:2`",
                code="group-size",
            )
        return slots

    @property
    def outlives_deaths(self) -> bool:
        """Whether the group was asked to be elastic."""
        return bool(self.given.get("elastic"))

    @property
    def place(self) -> str:
        """The number of hosts."""
        return str(len(self._hosts))

    def prepare(self, progress: Progress) -> None:
        """Check every host, and choose the allreduce algorithms for the links between them."""
        progress(f"looking at {len(self._hosts)} hosts")
        self._placement = prepare(self._hosts, self.given.get("interface"))
        self.ring_choice = algorithm_choice.choose(
            self._placement, progress, again=self._measure_again
        )
        self._measure_again = False  # a restart is no wish for another measurement
        self._ring = (
            {}
            if self.ring_choice is None
            else algorithm_choice.apply(self._placement, self.ring_choice)
        )

    def describe(self) -> str:
        """Return the ``mpirun``, once the hosts have been checked."""
        self.prepare(lambda _words: None)
        return super().describe()

    @property
    def controller_address(self) -> str | None:
        """The address that all hosts connect back to."""
        return self._prepared().controller

    @contextlib.contextmanager
    def rank_files(self, entry: Entry) -> Iterator[str]:
        """Bring the connection file to each host by ssh, which encrypts."""
        with key_files(entry, self._prepared()) as (path, listen):
            self._listen = listen
            yield path

    def environment(self) -> dict[str, str]:
        """Return a share of a host's cores for each rank, and where to listen."""
        tuned = {} if self.ring_choice is None else self.ring_choice.environment()
        elastic = elastic_options.rank_variables(self.given)
        return {**host_environment(self._prepared()), **tuned, **AWAY, **self._listen, **elastic}

    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:  # noqa: ARG002
        """Return an ``mpirun`` on this machine that starts its daemons by ssh."""
        words = ["-n", str(self.size), *daemon_arguments(self._listen)]
        words += mpirun_arguments(self._prepared(), self._ring, elastic=self.outlives_deaths)
        words += elastic_options.mpirun_arguments(self.given)
        return [find_mpirun(), *words, *forwarded(self.environment()), *rank]

    def explain_exit(self, log: str) -> str | None:
        """Return which rank died of what, or which host was lost."""
        if found := cause_of_death(log):
            return found
        host = lost_host(log)
        return f"the host {host} was lost (it went down, or its network did)" if host else None

    def status(self) -> list[str]:
        """Return what the links carry, and which algorithm is used at which size."""
        return [] if self.ring_choice is None else self.ring_choice.lines()

    def facts(self) -> dict[str, float]:
        """Return the links' bandwidth, and what a message takes beside its bytes."""
        choice = self.ring_choice
        if choice is None:
            return {}
        return {"link_bytes_per_s": choice.goodput, "link_message_s": choice.message_s}

    def _prepared(self) -> Placement:
        assert self._placement is not None, "prepare() comes first"  # noqa: S101
        return self._placement
