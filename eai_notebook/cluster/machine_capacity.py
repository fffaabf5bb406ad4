"""`capacity_for_ranks`: the cores and the free memory of this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import psutil

from eai_notebook.cluster.mpi_environment import core_count

RANK_BYTES: Final = 900e6
"""What a rank takes that has loaded TensorFlow, before any model."""

_CGROUP: Final = Path("/sys/fs/cgroup")


def capacity_for_ranks() -> dict[str, Any]:
    """Return ``cores``, ``free_bytes`` and what a rank needs, ``rank_bytes``.

    A container's limit counts as well as the machine's memory.
    """
    free = float(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        limit = float((_CGROUP / "memory.max").read_text())
        free = min(free, max(0.0, limit - float((_CGROUP / "memory.current").read_text())))
    return {"cores": core_count(), "free_bytes": free, "rank_bytes": RANK_BYTES}
