"""Tune the collective backend's fusion size on a model's first steps and remember it.

Large messages use the link best, and small ones leave sooner, while the rest is still
computed. Which is worth more depends on the model, its batch and the link, so a few sizes
take turns over the first steps of a long training between hosts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import platformdirs

from eai_notebook import collective
from eai_notebook.bookkeeping import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

SIZES: Final = (1 << 20, 2 << 20, 4 << 20, 8 << 20, 32 << 20)
EACH: Final = 6
"""Steps that a size is used for in a row; the first of them is not counted."""
CLEARLY: Final = 0.97
"""Another size replaces the first if its steps take at most this share of the time."""
LEAST_BYTES: Final = 1 << 20
"""Models with smaller gradients fit into one message of any size."""
WORTH: Final = 10
"""A training must have so many times the steps that tuning takes."""
_NETWORKS: Final = "OMPI_MCA_btl_tcp_if_include"
SWITCH: Final = "EAI_TUNE_FUSION"
"""``0``: never, as when the user has set the backend's threshold; ``1``: also on one host."""


class FusionTuner:
    """Changes the size between two steps and keeps the best; all ranks do the same steps.

    Args:
        sizes: Bytes to try, the one in use first.
        kept: The file that remembers the choice.
    """

    def __init__(self, sizes: Sequence[int], kept: Path) -> None:
        self._turns = [*sizes, *reversed(sizes)]
        self._kept = kept
        self._taken: dict[int, list[float]] = {size: [] for size in sizes}
        self._step = 0
        self._began = 0.0
        self.chosen: int | None = None

    def before_step(self) -> bool:
        """Note how long the last step took, and go on to the next size when it is time.

        Returns whether the ring was formed anew, which belongs to no step.
        """
        if self.chosen is not None:
            return False
        now = time.perf_counter()
        turn, position = divmod(self._step, EACH)
        if position > 1 or (position == 0 and self._step):
            last = self._turns[turn if position else turn - 1]
            self._taken[last].append(now - self._began)
        changed = position == 0 and self._step > 0
        if changed:
            use(self._turns[turn] if turn < len(self._turns) else self._choose())
        self._step += 1
        self._began = time.perf_counter()
        return changed

    def _choose(self) -> int:
        """Return the best size for the slowest rank, and report it."""
        sizes = list(self._taken)
        middle = [float(np.median(self._taken[size])) for size in sizes]
        slowest = collective.allreduce_numpy(np.asarray(middle), largest=True)
        best = int(np.argmin(slowest))
        if slowest[best] > CLEARLY * slowest[0]:
            best = 0
        self.chosen = sizes[best]
        if collective.rank() == 0:
            tried = ", ".join(
                f"{size >> 20} MB: {1e3 * seconds:.0f} ms"
                for size, seconds in sorted(zip(sizes, slowest, strict=True))
            )
            fused = f"{collective.backend_title()} fuses up to {self.chosen >> 20} MB now"
            say(f"{fused} ({tried} a step)")
            with contextlib.suppress(OSError):  # (a home that is full or cannot be written)
                self._kept.parent.mkdir(parents=True, exist_ok=True)
                self._kept.write_text(json.dumps({"fused": self.chosen}))
        return self.chosen


def use(size: int) -> None:
    """Have up to `size` bytes joined into one message; all ranks, between two steps."""
    collective.barrier()  # nothing is under way when the ring is left
    collective.fuse_up_to(size)


def tuner_for(model: keras.Model, steps: int) -> FusionTuner | None:
    """Return what tunes `model`'s training of `steps` steps; None where that is not worth it.

    Every rank must call it. What was found for this model and group before is used at once.
    """
    now = collective.fused_bytes()
    if now is None or not _is_worth_it(model):
        return None
    kept = _place_of(model)
    known = collective.broadcast_object(_read(kept))
    if known is not None:
        if known != now:
            use(known)
        return None
    sizes = list(dict.fromkeys([now, *SIZES]))
    if steps < WORTH * 2 * EACH * len(sizes):
        return None
    return FusionTuner(sizes, kept)


def _is_worth_it(model: keras.Model) -> bool:
    several = collective.size() > collective.local_size()
    if os.environ.get(SWITCH, "") == "0" or not (several or os.environ.get(SWITCH) == "1"):
        return False
    if collective.size() == 1 or getattr(model.optimizer, "wire", "") != "fp32":
        return False  # a new ring would make a narrow format forget what it owes
    return 4 * sum(_sizes(model)) >= LEAST_BYTES


def _sizes(model: keras.Model) -> list[int]:
    return [int(np.prod(variable.shape)) for variable in model.trainable_variables]


def _place_of(model: keras.Model) -> Path:
    """Return where the size for this model on this group is kept."""
    network = os.environ.get(_NETWORKS, "")
    group: list[Any] = [collective.size(), collective.local_size(), network]
    key = json.dumps([_sizes(model), group]).encode()
    folder = Path(platformdirs.user_cache_path("eai-notebook")) / "fusion"
    return folder / f"{hashlib.sha256(key).hexdigest()[:16]}.json"


def _read(kept: Path) -> int | None:
    try:
        return int(json.loads(kept.read_text())["fused"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
