"""`Launcher`: the interface of all launchers, which start the ranks of a group somewhere.

A launcher answers one question: which process, started on the notebook's machine, has `size` ranks
run? All else is common to all launchers (`group_start`): the controller, the client, the lease, the
wait for the ranks, the end. Launchers are found by their entry points (`launcher_registry`).
"""

from __future__ import annotations

import contextlib
import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eai_notebook.cluster.client import connection_file
from eai_notebook.cluster.mpirun_output import cause_of_death
from eai_notebook.cluster.registry import Entry
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from eai_notebook.cluster.batch_system import BatchSystem
    from eai_notebook.cluster.interruptible import Progress


@dataclass(frozen=True)
class Option:
    """An option that a launcher adds to `%eai up`, and a keyword of `Session`.

    ``name`` is the keyword; the option is ``--name`` with hyphens. A ``flag`` takes no value; an option
    with a ``bare`` value may be given without one.
    """

    name: str
    help: str
    metavar: str = "VALUE"
    type: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None
    flag: bool = False
    bare: str | None = None

    @property
    def text(self) -> str:
        """The option as a user writes it.

        Examples:
            >>> Option("measure_again", "measure the link anew", flag=True).text
            '--measure-again'
        """
        return f"--{self.name.replace('_', '-')}"


INTERFACE = Option(
    "interface", "this machine's interface or network that other hosts reach", metavar="NAME"
)
"""Shared by all launchers whose ranks connect to the notebook over a network."""


class Launcher(ABC):
    """Starts the ranks of one group, again after each `%eai restart`.

    The methods are called in this order: `prepare`, `rank_files` (a block around all that follows),
    `environment`, `command`, then `progress` until all ranks have registered. `explain_exit`,
    `status` and `notices` come while the group runs, from any thread; `end` comes once, last.

    Args:
        size: How many ranks the user asked for; None if the launcher is to choose.
        options: What the user set of `options`, by name; nothing else.

    Raises:
        EaiError: The options cannot be met, whatever the state of the cluster.
    """

    name: ClassVar[str]
    """What it is called in `%eai up --launcher NAME` and in the registry of groups."""
    options: ClassVar[tuple[Option, ...]] = ()
    """What it adds to `%eai up`. Two launchers may share an option, if it is equal in both."""
    selected_by: ClassVar[str | None] = None
    """The option whose use selects this launcher, as ``--hosts`` does."""
    is_away: ClassVar[bool] = False
    """Whether ranks run on other machines: they are signalled through the controller only, a loss
    takes longer to be noticed, and ranks end by themselves when they lose the controller."""
    start_timeout_s: ClassVar[float] = 120.0
    """How long ranks may take to register, without the time that `is_queued`."""

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        self.given = dict(options)
        self.size = self.choose_size(size)
        if self.size < 1:
            raise EaiError(
                f"a group of {self.size} ranks is not possible",
                "ask for 1 or more: `-n 2`",
                code="group-size",
            )

    @abstractmethod
    def choose_size(self, size: int | None) -> int:
        """Return how many ranks there are, from `size` and the options; no I/O."""

    @property
    def place(self) -> str:
        """Where ranks go, in a word or two: starts with an equal `place` take about as long."""
        return "this"

    def prepare(self, progress: Progress) -> None:  # noqa: B027  # nothing, by default
        """Choose where each rank goes, and check that it can run there, before anything starts.

        Raises:
            EaiError: It cannot; with every reason that was found, and its remedy.
        """

    @property
    def controller_address(self) -> str | None:
        """This machine's address that ranks connect to; None for loopback. Known after `prepare`."""
        return None

    @contextlib.contextmanager
    def rank_files(self, entry: Entry) -> Iterator[str]:
        """Have the connection file where ranks can read it; yield its path there.

        It holds the keys of the group: no other user may read it, and neither an argument nor an
        environment may hold its content. After the block, all ranks have read it.
        """
        yield str(connection_file(entry, "engine"))

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return the variables of the process that `command` starts, beside this process's own."""

    @abstractmethod
    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:
        """Return the command that has `size` processes ``rank`` run as one MPI group.

        It runs on this machine, in a session of its own, for as long as any rank runs; its end is
        the end of the group. On SIGTERM it ends all ranks. Its output is read by `explain_exit`.
        """

    def describe(self) -> str:
        """Return the command that would be started, as ``%eai up --show`` prints it.

        Nothing is started; `prepare` has not been called.
        """
        return shlex.join(self.command(["RANK"], Entry("NAME", self.size, "", 0.0, None)))

    @property
    def outlives_deaths(self) -> bool:
        """Whether the other ranks go on when one dies, and `command` with them."""
        return False

    @property
    def can_grow(self) -> bool:
        """Whether a rank can start another one while the group runs."""
        return self.outlives_deaths and not self.is_away

    def started(self, entry: Entry) -> None:  # noqa: B027
        """Take note that the process of `command` runs, as the group of `entry`."""

    @property
    def is_queued(self) -> bool:
        """Whether ranks wait for their machines, which takes as long as it takes."""
        return False

    def progress(self, registered: int) -> str:
        """Return what a start waits for, in one line, when `registered` ranks are up."""
        return f"{registered} of {self.size} ranks are up"

    def explain_exit(self, log: str) -> str | None:
        """Return of what a rank or the group died, from the output of `command`; None if unknown.

        It is asked several times a second until it knows, for some seconds.
        """
        return cause_of_death(log)

    def end(self) -> None:  # noqa: B027
        """End what the process of `command` may have left, once that has ended; do not raise."""

    def batch_system(self) -> BatchSystem | None:
        """Return what runs a whole notebook as a job with `size` ranks in it.

        None if there is no such thing: the notebook's kernel then runs on this machine, and its ranks
        wherever this launcher starts them.
        """
        return None

    def start_note(self) -> str:
        """Return what is said once after a start, such as a warning; empty if nothing."""
        return ""

    def status(self) -> list[str]:
        """Return the lines that `%eai status` shows of it while the group is up."""
        return []

    def notices(self) -> list[str]:
        """Return what the user should know now, each once: called about twenty times a second."""
        return []

    def facts(self) -> dict[str, float]:
        """Return what the record of each run holds of where it ran, such as the link's bandwidth."""
        return {}
