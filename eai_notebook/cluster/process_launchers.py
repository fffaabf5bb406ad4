"""The two processes of a group on this machine, for ipyparallel: its controller, and its ranks' command.

ipyparallel starts, watches and stops them, and writes down their pids for `Group.attach`.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any, Final

from ipyparallel.cluster.launcher import (
    EngineLauncher,
    LocalControllerLauncher,
    LocalProcessLauncher,
)
from traitlets import List, Unicode

from eai_notebook.cluster.mpirun_output import read_output
from eai_notebook.python_command import module_command

CONTROLLER: Final = "eai_notebook.cluster.process_launchers.ControllerLauncher"
RANKS: Final = "eai_notebook.cluster.process_launchers.RanksLauncher"


class _ReadsAnyOutput(LocalProcessLauncher):
    """A process that may print bytes that are no UTF-8, as a program of the user's does."""

    _output: str | None = None

    def get_output(self, remove: bool = False) -> str:  # noqa: FBT001, FBT002  # ipyparallel's own
        """Return what the process has printed; `remove` the file of it as well."""
        if self._output is None:
            try:
                self._output = read_output(self.output_file)
            except OSError:
                self._output = ""
        if remove:
            with contextlib.suppress(OSError):
                Path(self.output_file).unlink()
        return str(self._output)


class ControllerLauncher(_ReadsAnyOutput, LocalControllerLauncher):
    """Starts the controller, apart from the modules in the user's folder."""

    entrypoint_name = CONTROLLER  # what ipyparallel writes down for `Cluster.from_file`

    def start(self) -> object:
        """Start it."""
        self.controller_cmd = module_command("eai_notebook.cluster.controller")
        return super().start()


class RanksLauncher(_ReadsAnyOutput, EngineLauncher):
    """Starts the command of a `Launcher`, which runs all ranks."""

    entrypoint_name = RANKS

    command = List(Unicode())
    stop_seconds_until_kill = 15
    """A command may have to end ranks on other machines."""

    def find_args(self) -> list[str]:
        """Return the command."""
        return list(self.command)

    def start(self, n: int) -> object:
        """Start it; it runs `n` ranks."""
        self.n = n
        return super().start()


def output_of(cluster: Any) -> str:
    """Return what the ranks' command of an ipyparallel cluster has printed, outside of cells."""
    command = cluster.engine_set
    if command is None:
        return ""
    try:
        return read_output(command.output_file)
    except OSError:  # read and removed by ipyparallel when the command had ended
        return str(command.get_output())


def quiet_log() -> logging.Logger:
    """Return a logger that keeps ipyparallel's every step out of the notebook."""
    log = logging.getLogger("eai_notebook.cluster")
    log.setLevel(logging.ERROR)
    return log
