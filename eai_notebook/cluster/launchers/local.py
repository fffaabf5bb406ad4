"""The local launcher: ranks on this machine under one ``mpirun``, sharing its cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from eai_notebook.cluster import elastic_options, listening
from eai_notebook.cluster.launcher import Launcher, Option
from eai_notebook.cluster.mpi_environment import core_count, find_mpirun, rank_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eai_notebook.cluster.registry import Entry

_TRANSPORTS = "OMPI_MCA_btl"


class LocalLauncher(Launcher):
    """Ranks on this machine; they share its cores and are bound to none."""

    name: ClassVar[str] = "local"
    options: ClassVar[tuple[Option, ...]] = (elastic_options.ELASTIC, elastic_options.LEAST)

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        super().__init__(size, options)
        elastic_options.check(self.given, self.size)

    @property
    def outlives_deaths(self) -> bool:
        """Whether the group was asked to be elastic."""
        return bool(self.given.get("elastic"))

    def choose_size(self, size: int | None) -> int:
        """Return the number asked for; by default a rank a core, 2 to 4."""
        return max(2, min(4, core_count())) if size is None else size

    def environment(self) -> dict[str, str]:
        """Return a share of the cores for each rank, and where to listen."""
        elastic = elastic_options.rank_variables(self.given)
        if elastic:  # ranks that come later are reached by TCP alone
            elastic[f"{_TRANSPORTS}_tcp_if_include"] = "lo"
            elastic[_TRANSPORTS] = os.environ.get(_TRANSPORTS, "self,sm,tcp")
        return {**rank_environment(self.size), **private_environment(), **elastic}

    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:  # noqa: ARG002
        """Return an ``mpirun`` on this machine."""
        words = ["-n", str(self.size), "--oversubscribe", "--bind-to", "none"]
        return [find_mpirun(), *words, *elastic_options.mpirun_arguments(self.given), *rank]

    def start_note(self) -> str:
        """Warn of more ranks than cores: it works, and each of them runs slower."""
        cores = core_count()
        if self.size <= cores:
            return ""
        return f"warning: they share {cores} core{'s' * (cores > 1)}"


def private_environment() -> dict[str, str]:
    """Return the environment that keeps ranks of one machine to themselves.

    They exchange by shared memory, which other users cannot read; Open MPI's TCP would listen on
    every interface, and takes messages from anybody. ``mpirun`` itself listens on loopback. A value
    the user has set stands.
    """
    private = listening.environment(listening.LOOPBACK, listening.library())
    if Path("/dev/shm").is_dir():  # noqa: S108  without it, TCP on loopback is all there is
        private[_TRANSPORTS] = os.environ.get(_TRANSPORTS, "^tcp")
    return private
