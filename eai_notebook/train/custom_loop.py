"""`step` and `allreduce_gradients`: ledger and exchange for custom training loops.

The loop stays as it is; each step is put under ``with step()`` and the gradients go
through `allreduce_gradients`.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from eai_notebook import collective
from eai_notebook.train import matching
from eai_notebook.train.autograph import not_converted
from eai_notebook.train.exchange import gradients as exchange
from eai_notebook.train.exchange.wire_state import Sparse, Wire
from eai_notebook.train.first_weights import take_over
from eai_notebook.train.iterator_release import release_in_background
from eai_notebook.train.late_variables import has_value, refuse_to_run
from eai_notebook.train.recording import graph_timestamps, step_clock
from eai_notebook.train.sharded import sharded_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType


class step:  # noqa: N801 -- used as a function: `with eai.step():`
    """Measure one training step of a custom loop.

    The first one opens a run, which all ranks must do together; the run ends with the
    cell, with the process, or when another begins. A step that raises is not counted.

    The exchange is seen through `allreduce_gradients` or a `DistributedOptimizer`; only
    the latter shows when the update was done. The batch is seen if it is fetched with
    `next`; else waiting for it, between two steps, is booked to ``other``.

    Args:
        samples: Samples in this rank's batch; `next` finds out by itself.
        name: What the run is called in the record.

    Examples:
        >>> batches = iter([np.ones((8, 2)), np.ones((8, 2))])
        >>> with step() as this:
        ...     batch = this.next(batches)
        >>> this.samples
        8.0

    """

    def __init__(self, samples: float | None = None, *, name: str = "custom loop") -> None:
        self.samples = float("nan") if samples is None else float(samples)
        self._name = name
        self._asked = float("nan")
        self._got = float("nan")

    def __enter__(self) -> Self:
        """Begin measuring."""
        collective.ensure_formed()
        if step_clock.current() is None:
            step_clock.begin_run(self._name, {})
        self._asked = self._got = float("nan")
        self._entered = time.time()
        return self

    def next(self, batches: Iterator[Any]) -> Any:
        """Return the iterator's next batch, and book the wait for it as input.

        Raises:
            StopIteration: There is none.

        """
        release_in_background(batches)
        self._asked = time.time()
        batch = next(batches)
        self._got = time.time()
        if np.isnan(self.samples):
            self.samples = _length(batch)
        return batch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the step, unless it failed."""
        running = step_clock.current()
        if kind is None and running is not None:
            got = self._entered if np.isnan(self._got) else self._got
            running.take(
                np.array([self._asked, got, self.samples, *graph_timestamps.read().numpy()])
            )


@not_converted
def allreduce_gradients(
    gradients: Sequence[Any],
    variables: Sequence[Any],
    *,
    wire: str = "fp32",
    sparse: Sparse = "merged",
) -> list[Any]:
    """Return `gradients` averaged over all ranks, for the optimizer to apply.

    Works eagerly and inside a ``tf.function``. The first time variables are seen, they
    take over rank 0's values: inside a ``tf.function`` before its first step runs, in an
    eager loop after these gradients were computed.

    Args:
        gradients: Tensors, `tf.IndexedSlices` or None, as a gradient tape returns them.
        variables: What they are the gradients of, in any order: ranks meet by variable. Or
            names for them, and then sharing the initial values is left to the caller.
        wire: The format large gradients travel in, see `DistributedOptimizer`.
        sparse: How embedding gradients travel, see `DistributedOptimizer`.

    Raises:
        EaiError: An unknown `wire` or `sparse`, or whole numbers and another wire than fp32;
            or the ranks have gradients of different variables.

    """
    collective.ensure_formed()
    names = sorted(v if isinstance(v, str) else getattr(v, "path", v.name) for v in variables)
    memory = _memory(wire, sparse, tuple(names))
    if collective.exchanges():
        order = matching.agree(gradients, variables)
        _share([v for v in order.sort(variables) if not isinstance(v, str)])
        exchanged = exchange.exchange_copies(gradients, variables, memory)
    else:
        exchanged = exchange.local(gradients, memory)
    exchanged.write_marks()
    return exchanged.gradients


@functools.cache
def _memory(wire: str, sparse: str, names: tuple[str, ...]) -> Wire:  # noqa: ARG001 -- the key
    """Return what exchanges of these variables remember; it lives as long as the process."""
    return Wire(wire, sparse)


def _share(variables: Sequence[Any]) -> None:
    """Take over rank 0's values of the variables that were not seen before.

    A variable that is made while a step is traced has no value yet. TensorFlow gives it one and
    traces the step again before it runs: then it is taken over.
    """
    new = [v for v in sharded_variables.copies(variables) if not getattr(v, "_eai_shared", False)]
    if not all(map(has_value, new)):
        refuse_to_run()
        return
    take_over(new)
    for variable in new:
        variable._eai_shared = True  # noqa: SLF001


def _length(batch: Any) -> float:
    """Return the length of the first array in a batch, NaN if there is none."""
    while isinstance(batch, tuple | list | dict) and batch:
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    shape: Sequence[int] = getattr(batch, "shape", ())
    return float(shape[0]) if len(shape) else float("nan")
