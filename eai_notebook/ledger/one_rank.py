"""The speed-up of a run against one rank, where a run of one rank with the same model is recorded."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import RunRecord, list_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

META: Final = "one_rank"
"""The entry of a run's ``meta`` that holds the run of one rank, as `find` returns it."""

MOST_READ: Final = 200
"""Records that are looked through, newest first."""

SAME_BATCH: Final = 0.01
"""Batches that differ by less are the same: the last one of an epoch is often smaller."""

_SAME: Final = ("model", "parameters", "optimizer")


def find(root: Path, meta: Mapping[str, Any], host: str) -> dict[str, float] | None:
    """Return the latest run of one rank below `root` with the same model on `host`.

    As its ``samples_per_s`` and its ``batch``, the samples of a step; None if there is none, or if
    ``meta`` does not say what the model is.
    """
    if meta.get("model") is None:
        return None
    for path in list_runs(root)[:MOST_READ]:
        with contextlib.suppress(EaiError):
            info = RunRecord(path).info
            outcome = info.meta.get("outcome", {})
            rate, step = outcome.get("samples_per_s"), outcome.get("step_ms")
            is_same = all(info.meta.get(name) == meta.get(name) for name in _SAME)
            if info.size == 1 and is_same and host in info.hosts.values() and rate and step:
                return {"samples_per_s": float(rate), "batch": float(rate) * float(step) / 1e3}
    return None


def speed_up(
    meta: Mapping[str, Any], size: int, batch: float, samples_per_s: float
) -> dict[str, float] | None:
    """Return how many times the rate of one rank a run has; None where that says nothing.

    ``batch`` is the samples of a step on one rank. Runs are compared if the ranks have the batch of
    the one rank each, or all together. ``times`` is the ratio of samples/s, ``ideal_pct`` its share
    of ``size`` in percent, ``samples_per_s`` the rate of the one rank.

    Examples:
        >>> speed_up({"one_rank": {"samples_per_s": 500.0, "batch": 64.0}}, 4, 64.0, 1500.0)
        {'times': 3.0, 'ideal_pct': 75.0, 'samples_per_s': 500.0}
        >>> speed_up({"one_rank": {"samples_per_s": 500.0, "batch": 64.0}}, 4, 512.0, 1500.0)
    """
    known = meta.get(META)
    if size == 1 or not isinstance(known, dict):
        return None
    alone, alone_batch = known.get("samples_per_s"), known.get("batch")
    if not isinstance(alone, float) or not isinstance(alone_batch, float) or not alone > 0:
        return None
    fits = any(
        abs(each - alone_batch) <= SAME_BATCH * alone_batch for each in (batch, batch * size)
    )
    if not fits or not math.isfinite(samples_per_s):
        return None
    times = samples_per_s / alone
    return {"times": times, "ideal_pct": 100 * times / size, "samples_per_s": alone}


def in_words(found: Mapping[str, float]) -> str:
    """Return a speed-up as a person would say it.

    Examples:
        >>> in_words({"times": 1.8512, "ideal_pct": 92.56})
        '1.85x one rank (93 % of ideal)'
    """
    return f"{found['times']:.3g}x one rank ({found['ideal_pct']:.0f} % of ideal)"
