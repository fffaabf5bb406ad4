"""Check that the weights are still equal on all ranks, at little cost.

Replicas that drift apart train on without an error, and each into another model. So their
bits are compared: a checksum of each variable, one small exchange for all of them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import lone_fits
from eai_notebook.train.sharded.sharded_variables import copies

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_replicas(variables: Sequence[Any]) -> None:
    """Raise on all ranks if `variables` have other bits on one rank than on the others.

    All ranks must call it together, with the same variables in the same order.

    Args:
        variables: Keras or TensorFlow variables of any shape and dtype.

    Raises:
        EaiError: They differ; it names the first one that does, and the ranks.

    Examples:
        >>> check_replicas([keras.Variable([1.0, 2.0])])

    """
    if collective.size() == 1 or not variables:
        return
    sums = np.array([checksum(np.asarray(variable)) for variable in variables], np.int64)
    found = first_difference(collective.gather_numpy(sums))
    if found is None:
        return
    index, odd = found
    name = getattr(variables[index], "path", variables[index].name)
    whose = f"rank {odd[0]}" if len(odd) == 1 else f"ranks {', '.join(map(str, odd))}"
    raise EaiError(
        f"replicas differ: `{name}` of {whose} is not what the other ranks have",
        "change weights on all ranks alike, and train them with eai.DistributedOptimizer or "
        "eai.allreduce_gradients; calling fit again begins with rank 0's weights",
        code="replicas-differ",
    )


def checksum(values: np.ndarray) -> int:
    """Return 32 bits that change with any bit of `values`.

    Examples:
        >>> checksum(np.zeros(2, "f4")) == checksum(-np.zeros(2, "f4"))
        False
    """
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def first_difference(table: np.ndarray) -> tuple[int, list[int]] | None:
    """Return the first column of `table`, of shape [ranks, variables], that is not uniform.

    With it come the ranks that are not in the majority; where there is none, rank 0 counts
    as right.

    Examples:
        >>> first_difference(np.array([[5, 6], [5, 7], [5, 7]]))
        (1, [0])
    """
    differs = (table != table[0]).any(axis=0)
    if not differs.any():
        return None
    index = int(np.argmax(differs))
    column = table[:, index]
    votes = (column[:, None] == column).sum(axis=1)
    usual = column[np.argmax(votes)]
    return index, np.flatnonzero(column != usual).tolist()


class ReplicaCheck(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Compares the ranks' trainable weights after the first step and at the end of each epoch.

    Args:
        every_steps: Compare after so many steps, too.
    """

    def __init__(self, every_steps: int | None = None) -> None:
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise EaiError(
                f"check_every is {every_steps!r}",
                "give a whole number of at least 1",
                code="option-invalid",
            )
        self._every = every_steps
        self._checked = 0
        self._first = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Compare after this training's first step."""
        self._first = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count the epoch's steps from here."""
        self._checked = 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Compare after the first step, and before step `batch` if enough were made since then.

        Not at a step's end: Keras runs callbacks beside the next step only if none has a
        hook there.
        """
        due = self._every is not None and batch - self._checked >= self._every
        if due:
            self._checked = batch
        if due or (self._first and batch > 0):
            self._compare()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Compare."""
        self._compare()

    def _compare(self) -> None:
        self._first = False
        try:
            check_replicas(copies(self.model.trainable_variables))
        except EaiError:
            if lone_fits.exchanges(self.model):
                raise
            raise EaiError(
                "no gradient was exchanged, so each rank trains a model of its own: the model's "
                "train_step applies an optimizer that is not distributed",
                "wrap each of its optimizers in eai.DistributedOptimizer(...), or put "
                "eai.allreduce_gradients before optimizer.apply",
                code="gradients-not-exchanged",
            ) from None
