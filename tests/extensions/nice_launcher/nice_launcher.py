"""Launcher nice: ranks on this machine that leave the processor to everything else.

An example of a launcher in a package of its own: ``%eai up -n 2 --nice 10``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from eai_notebook.cluster.launcher import Launcher, Option
from eai_notebook.cluster.launchers.local import private_environment
from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eai_notebook.cluster.registry import Entry

LEAST = 19


class NiceLauncher(Launcher):
    """Ranks on this machine, at a lower priority."""

    name: ClassVar[str] = "nice"
    options: ClassVar[tuple[Option, ...]] = (
        Option("nice", "at this priority: 1 to 19, the least", metavar="LEVEL", type=int),
    )
    selected_by: ClassVar[str | None] = "nice"

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        self._level = int(options.get("nice", 10))
        if not 1 <= self._level <= LEAST:
            raise EaiError(f"there is no priority {self._level}", "use 1 to 19", code="nice-level")
        super().__init__(size, options)

    def choose_size(self, size: int | None) -> int:
        """Return the number asked for, or 2."""
        return 2 if size is None else size

    def environment(self) -> dict[str, str]:
        """Return the environment of local ranks, and the level that they run at."""
        level = {"NICE_LEVEL": str(self._level)}
        return {**rank_environment(self.size), **private_environment(), **level}

    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:  # noqa: ARG002
        """Return an ``mpirun`` below ``nice``."""
        mpirun = [find_mpirun(), "-n", str(self.size), "--oversubscribe", "--bind-to", "none"]
        return ["nice", "-n", str(self._level), *mpirun, *rank]

    def status(self) -> list[str]:
        """Return the priority."""
        return [f"  priority {self._level}"]
