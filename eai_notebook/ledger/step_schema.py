"""The row that a rank records for one step, and the six parts of a step.

This module is the contract between the rank that measures, the kernel that stores
and merges, and the display that draws. It needs nothing but NumPy, so that all three
can read it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

PARTS: Final = ("input", "compute", "wait_peer", "transfer", "update", "other")
"""The parts that add up to a step's wall time, in the order they are drawn."""

NAMED: Final = ("callback", "checkpoint", "iterator", "compiling", "collector")
"""What is known of `other`: the user's callbacks, saving checkpoints, making an iterator over
the data, tracing and compiling the step, Python's garbage collector."""

STEP_DTYPE: Final = np.dtype(
    [
        ("step", "<i8"),  # counted from 0 within the run
        ("begin", "<f8"),  # end of the previous step: seconds since the epoch, rank's clock
        ("end", "<f8"),  # end of this step: seconds since the epoch, rank's clock
        ("input", "<f8"),  # seconds blocked waiting for the batch
        ("compute", "<f8"),  # seconds from batch in hand to local gradients ready
        ("ready", "<f8"),  # when the last local gradient was ready: seconds since the epoch
        ("reduced", "<f8"),  # when the last reduced gradient was here: seconds since the epoch
        ("update", "<f8"),  # seconds applying the reduced gradients
        ("hidden", "<f8"),  # seconds of communication in flight before `ready`
        ("samples", "<f8"),  # samples in this rank's batch
        ("bytes", "<f8"),  # gradient bytes this rank sent to others
        ("embedding_bytes", "<f8"),  # of these, for rows of embeddings
        ("redone", "<f8"),  # exchanges made again in fp32 because fp16 had overflowed
        *((name, "<f8") for name in NAMED),  # seconds of `other` that have a name
    ],
)
"""One step as one rank saw it.

Times are in seconds. A value that was not measured is NaN, never zero: a step without
an exchange (one rank, or a gradient accumulation step) has NaN in ``ready`` and
``reduced``. Splitting ``reduced - ready`` into `wait_peer` and `transfer` needs the
other ranks' rows, so it is done where rows are merged, not here.
"""


def empty_steps(count: int) -> np.ndarray:
    """Return `count` rows in which nothing has been measured yet.

    Examples:
        >>> rows = empty_steps(2)
        >>> bool(np.isnan(rows["input"]).all()), rows["step"].tolist()
        (True, [0, 1])
    """
    rows = np.full(count, np.nan, dtype=STEP_DTYPE) if count == 0 else np.empty(count, STEP_DTYPE)
    for name in STEP_DTYPE.names or ():
        rows[name] = np.nan if name != "step" else np.arange(count)
    return rows


FIRST_FORMAT: Final = np.dtype(
    [
        (name, "<i8" if name == "step" else "<f8")
        for name in STEP_DTYPE.names or ()
        if name not in NAMED
    ]
)
"""The rows of records of format 1, which knew nothing of `NAMED`."""


def from_first_format(rows: np.ndarray) -> np.ndarray:
    """Return rows of `FIRST_FORMAT` as rows of `STEP_DTYPE`; what they did not know is missing.

    Examples:
        >>> rows = from_first_format(np.zeros(2, FIRST_FORMAT))
        >>> rows["end"].tolist(), rows["callback"].tolist()
        ([0.0, 0.0], [nan, nan])
    """
    now = empty_steps(len(rows))
    for name in FIRST_FORMAT.names or ():
        now[name] = rows[name]
    return now
