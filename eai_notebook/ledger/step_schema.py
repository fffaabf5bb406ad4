"""The step record: the row that a rank writes for one step.

This module is the contract between the rank that measures, the kernel that stores
and merges, and the display that draws. A run record lists its own columns, so rows are
read by the names of their columns: what a record does not have is missing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from eai_notebook.ledger.parts import ADDED

NAMED: Final = ("callback", "checkpoint", "iterator", "compiling", "collector", "section")
"""What is known of `other`: the user's callbacks, saving checkpoints, making an iterator over
the data, tracing and compiling the step, Python's garbage collector, sections of the user's."""

_BASE: Final = np.dtype(
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

ADDED_COLUMNS: Final = tuple(
    dict.fromkeys(c for part in ADDED for c in part.columns if c not in (_BASE.names or ()))
)
"""Columns of seconds that parts of other packages need."""

NOTED: Final = (*NAMED, *ADDED_COLUMNS)
"""Columns of seconds that Python notes, between the marks of the graph."""

STEP_DTYPE: Final = np.dtype([*_BASE.descr, *((name, "<f8") for name in ADDED_COLUMNS)])
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
    [(name, "<i8" if name == "step" else "<f8") for name in _BASE.names or () if name not in NAMED]
)
"""The rows of records of format 1, which do not list their columns."""


def as_steps(rows: np.ndarray, dtype: np.dtype[Any] = STEP_DTYPE) -> np.ndarray:
    """Return rows with other columns as rows of `dtype`, matched by name.

    Columns that `rows` lacks are NaN; columns that `dtype` lacks are dropped.

    Examples:
        >>> rows = as_steps(np.zeros(2, FIRST_FORMAT))
        >>> rows["end"].tolist(), rows["callback"].tolist()
        ([0.0, 0.0], [nan, nan])
    """
    if rows.dtype == dtype:
        return rows
    found = np.empty(len(rows), dtype)
    for name in dtype.names or ():
        found[name] = rows[name] if name in (rows.dtype.names or ()) else np.nan
    return found


_NEEDED: Final = frozenset(("step", "begin", "end"))


def columns_as_json(dtype: np.dtype[Any] = STEP_DTYPE) -> list[list[str]]:
    """Return the columns of rows as a run record lists them: name and type of each."""
    return [[str(name), str(kind)] for name, kind, *_ in dtype.descr]


def columns_from_json(columns: object) -> np.dtype[Any]:
    """Return the type of rows whose columns a run record lists.

    Raises:
        ValueError: They are not a list of distinct names with types, or the step's number,
            begin or end is missing.

    Examples:
        >>> columns_from_json(columns_as_json()) == STEP_DTYPE
        True
    """
    if not isinstance(columns, list) or not all(_is_column(each) for each in columns):
        message = "its columns are not a list of names and types"
        raise ValueError(message)
    names = [name for name, _ in columns]
    if len(set(names)) != len(names) or not set(names) >= _NEEDED:
        message = f"its rows need the columns {', '.join(sorted(_NEEDED))}, each column once"
        raise ValueError(message)
    return np.dtype([(name, kind) for name, kind in columns])


def _is_column(entry: object) -> bool:
    match entry:
        case [str(name), str(kind)]:
            return name.isidentifier() and kind == ("<i8" if name == "step" else "<f8")
    return False
