"""`PodOrder` and `PodsState`: what a launcher and its `pod_runner` write for each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.kube_jobs.pod_patience import WAIT_S
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class PodOrder:
    """What is to be done: the job's manifest, and what its pods run.

    ``keys`` is the connection file for the ranks, or empty; ``address`` this machine's, for the pods.
    """

    job: dict[str, Any]
    size: int
    per_pod: int
    address: str
    folder: str
    rank: list[str] = field(default_factory=list)
    state: str = ""
    keys: str = ""
    context: str | None = None
    namespace: str | None = None
    wait_s: float = WAIT_S
    lease_s: float = 60.0
    cores: int | None = None

    def write(self, file: Path) -> None:
        """Put the order into `file`."""
        write_private(file, json.dumps(asdict(self)))


@dataclass
class PodsState:
    """What the launcher knows of the job: its phase, and each pod in words.

    The phases are ``submitted``, ``waiting`` (for nodes, images), ``starting`` (ranks), ``over``.
    """

    job: str
    phase: str = "submitted"
    words: str = ""
    pods: list[tuple[str, str]] = field(default_factory=list)

    def write(self, file: Path) -> None:
        """Put the state on disk."""
        write_private(file, json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> PodsState | None:
        """Return the state in `file`; None if there is none."""
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            return None
