"""`BatchSystem`: the interface to what runs a whole notebook as a job, its kernel included.

A launcher that has one (`Launcher.batch_system`) gives it to `eai-notebook run`. In the job the notebook
starts its group by the same launcher, with what `group_options` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STOP_FILE: Final = "stop"
"""A file of this name in the job's folder asks the training to write a checkpoint and end."""
OUTPUT_FILE: Final = "output.log"
"""What the job prints goes into this file of its folder."""
OURS: Final = "eai: "
"""How lines of a job's output begin that are for the user."""
AGAIN: Final = 75
"""The exit code of a notebook whose training was stopped at a checkpoint, and could go on from it."""
RESTARTS: Final = "EAI_JOB_RESTARTS"
"""A variable that is set where the batch system starts a notebook again that has ended with `AGAIN`."""


@dataclass(frozen=True)
class BatchJob:
    """What is to run.

    Attributes:
        name: What the job is called.
        folder: The job's folder, shared by this machine and the machines of the job.
        work: The notebook's working folder.
        command: What runs the notebook; its exit code is the job's, `AGAIN` asks for another start.
    """

    name: str
    folder: Path
    work: Path
    command: Sequence[str]


@dataclass(frozen=True)
class BatchState:
    """How a job is.

    Attributes:
        words: Its state in a few words, such as ``PENDING (Resources)``.
        is_queued: Whether it waits for its machines, also after it was queued again.
        is_over: Whether it has ended for good.
        end: Why the batch system has ended it, such as a time limit; empty if it ended by itself.
        obstacle: Why it will not start however long one waits, with a remedy; empty if it may.
    """

    words: str
    is_queued: bool = False
    is_over: bool = False
    end: str = ""
    obstacle: str = ""


class BatchSystem(ABC):
    """Runs a notebook as a job."""

    @abstractmethod
    def group_options(self, folder: Path) -> dict[str, Any]:
        """Return the launcher's options of a group inside the job that `folder` belongs to."""

    @abstractmethod
    def describe(self, job: BatchJob) -> str:
        """Return what would be submitted, as text; nothing is submitted."""

    @abstractmethod
    def submit(self, job: BatchJob) -> str:
        """Submit the job; return its identity, a text that `look` and `cancel` take in any process.

        Raises:
            EaiError: It is refused; with the batch system's own words.
        """

    @abstractmethod
    def look(self, identity: str) -> BatchState | None:
        """Return how the job is; None if the batch system does not answer now."""

    @abstractmethod
    def cancel(self, identity: str) -> None:
        """End the job; harmless if it has ended."""

    @abstractmethod
    def title(self, identity: str) -> str:
        """Return what the user calls the job, such as ``Slurm job 4711``."""
