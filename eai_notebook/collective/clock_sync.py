"""Measure the offset of this host's clock to rank 0's.

A message is sent to rank 0 and back many times. The quickest trip says most: rank 0's
clock was read somewhere between sending and receiving, so the middle is its best guess
and half of the trip the most it can be wrong by.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.collective.membership import communicator, rank, size
from eai_notebook.collective.ops import gather_numpy
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from mpi4py import MPI

_TRIPS: Final = 40
_TAG: Final = 0x0EA1
_PATIENCE_S: Final = 120.0
"""For a peer that is gone; one of many ranks on busy machines waits long for its turn."""


def clock_offset() -> tuple[float, float]:
    """Return what to add to this rank's clock to get rank 0's, and its half-width, in s.

    Every rank must call it. Ranks on rank 0's machine share its clock: they get (0, 0)
    without a message.

    Raises:
        EaiError: A peer did not answer within two minutes.

    Examples:
        >>> clock_offset()
        (0.0, 0.0)
    """
    comm = communicator()
    if comm is None or size() == 1:
        return 0.0, 0.0
    machines = gather_numpy(_machine())
    far = [other for other in range(1, size()) if not (machines[other] == machines[0]).all()]
    mine = (0.0, 0.0)
    for other in far:
        if rank() == 0:
            _answer(comm, other)
        elif rank() == other:
            mine = _ask(comm)
    return mine


def _machine() -> np.ndarray:
    """Return the running kernel's identity as 36 bytes; containers on one machine share it."""
    name = Path("/proc/sys/kernel/random/boot_id")
    text = name.read_text().strip() if name.exists() else f"rank {rank()}"
    return np.frombuffer(text.encode()[:36].ljust(36), dtype=np.uint8)


def _ask(comm: MPI.Intracomm) -> tuple[float, float]:
    """Measure this rank's offset to rank 0, which must be in `_answer` for it."""
    best = (0.0, np.inf)
    reading = np.zeros(1)
    for _ in range(_TRIPS):
        sent = time.time()
        _wait(comm.Isend(np.array([sent]), dest=0, tag=_TAG), 0)
        _wait(comm.Irecv(reading, source=0, tag=_TAG), 0)
        back = time.time()
        half = (back - sent) / 2
        if 0 <= half < best[1]:
            best = (float(reading[0]) - (sent + half), half)
    return best


def _answer(comm: MPI.Intracomm, other: int) -> None:
    """Send this rank's clock to rank `other`, as often as it asks."""
    question = np.zeros(1)
    for _ in range(_TRIPS):
        _wait(comm.Irecv(question, source=other, tag=_TAG), other)
        _wait(comm.Isend(np.array([time.time()]), dest=other, tag=_TAG), other)


def _wait(request: MPI.Request, other: int) -> None:
    """Poll `request`, because a blocking wait could not be interrupted."""
    until = time.monotonic() + _PATIENCE_S
    while not request.Test():
        if time.monotonic() > until:
            request.Cancel()
            what = f"rank {other} did not answer the clock check within {_PATIENCE_S:.0f} s"
            raise EaiError(
                what,
                "see whether it is still running with `%eai status`",
                code="clock-check-silent",
            )
