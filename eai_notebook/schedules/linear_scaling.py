"""Scale the learning rate linearly with the global batch size."""

from __future__ import annotations

from typing import Final

from eai_notebook.errors import EaiError

REFERENCE_BATCH: Final = 256
"""The batch size of most published learning rates."""


def scale_linearly(
    rate: float, global_batch: int, *, reference_batch: int = REFERENCE_BATCH
) -> float:
    """Return the learning rate for a larger batch: k times the rate for k times the batch.

    One step with k batches then moves the weights about as far as k steps. This does not hold in
    the first epochs, so start with a warm-up.

    Args:
        rate: A good rate for `reference_batch`.
        global_batch: Samples in a step of all ranks together.
        reference_batch: Samples in a step at `rate`.

    Raises:
        EaiError: A batch size below 1.

    Source:
        Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1.

    Examples:
        >>> scale_linearly(0.1, 8192)
        3.2
    """
    for name, batch in (("global_batch", global_batch), ("reference_batch", reference_batch)):
        if batch < 1:
            raise EaiError(
                f"{name} is {batch!r}", "use a whole number of at least 1", code="option-invalid"
            )
    return rate * global_batch / reference_batch


def steps_per_epoch(samples: int, global_batch: int) -> int:
    """Return the number of whole steps in an epoch, of all ranks together.

    Args:
        samples: Samples in the data of all ranks together.
        global_batch: Samples in a step of all ranks together.

    Raises:
        EaiError: The samples do not fill one step.

    Examples:
        >>> steps_per_epoch(1_281_167, 8192)
        156
    """
    steps = samples // global_batch if global_batch >= 1 else 0
    if steps < 1:
        raise EaiError(
            f"{samples:,} samples do not fill one step of {global_batch:,}",
            "use a smaller batch, fewer ranks, or more data",
            code="too-few-rows",
        )
    return steps
