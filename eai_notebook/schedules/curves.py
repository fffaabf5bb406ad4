"""Learning-rate curves as Keras schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.errors import EaiError
from eai_notebook.schedules import notation

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(text: str, *, steps_per_epoch: int) -> WarmupSteps:
    """Return the schedule that `text` describes.

    ``"0.1;5;3.2;30;0.32;60;0.032"`` rises linearly from 0.1 to 3.2 in 5 epochs, stays there until
    epoch 30 is over, and is then 0.32 until epoch 60 and 0.032 after it. With ``0`` as the first
    epoch there is no warm-up; a single number is constant.

    Args:
        text: Rate;epoch;rate;epoch;rate...; epochs may be fractions.
        steps_per_epoch: Steps of all ranks in an epoch, such as the data's own
            ``steps_per_epoch``. A step is an update of the weights.

    Raises:
        EaiError: An item is no number or out of order, or an epoch has no steps.

    Source:
        Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2 (gradual warm-up).

    Examples:
        >>> schedule = parse("0.1;5;3.2;30;0.32;60;0.032;80;0.0032", steps_per_epoch=10)
        >>> [round(float(schedule(10 * epoch)), 4) for epoch in (0, 2.5, 5, 29, 30, 60, 80)]
        [0.1, 1.65, 3.2, 3.2, 0.32, 0.032, 0.0032]
    """
    rates, epochs = notation.read(text)
    _check_steps(steps_per_epoch)
    ends = [round(epoch * steps_per_epoch) for epoch in epochs]
    if not epochs:
        return WarmupSteps(rates[0], 0, rates, [])
    return WarmupSteps(rates[0], ends[0], rates[1:], ends[1:])


def cosine(
    peak: float,
    *,
    epochs: float,
    steps_per_epoch: int,
    warmup_epochs: float = 5.0,
    initial: float = 0.0,
    final: float = 0.0,
) -> keras.optimizers.schedules.CosineDecay:
    """Return a warm-up from `initial` to `peak`, then half a cosine down to `final`.

    Args:
        peak: The rate at the end of the warm-up.
        epochs: All epochs, including the warm-up.
        steps_per_epoch: Steps of all ranks in an epoch.
        warmup_epochs: Epochs of the warm-up.
        initial: The rate of the first step.
        final: The rate after the last one.

    Returns:
        Keras's own schedule: a model saved with it loads without this package.

    Raises:
        EaiError: An epoch has no steps, the peak is not above 0, or the warm-up fills all epochs.

    Source:
        Loshchilov & Hutter 2016, "SGDR", equation 5, without restarts.

    Examples:
        >>> schedule = cosine(3.2, epochs=90, steps_per_epoch=10, initial=0.1)
        >>> [round(float(schedule(10 * epoch)), 3) for epoch in (0, 5, 47.5, 90)]
        [0.1, 3.2, 1.6, 0.0]
    """
    _check_steps(steps_per_epoch)
    if peak <= 0:
        raise EaiError(
            f"the peak of the schedule is {peak!r}", "use a rate above 0", code="schedule-invalid"
        )
    if not 0 <= warmup_epochs < epochs:
        raise EaiError(
            f"a warm-up of {warmup_epochs:g} epochs does not fit into {epochs:g}",
            "use fewer warmup_epochs than epochs",
            code="schedule-invalid",
        )
    warmup = round(warmup_epochs * steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        initial if warmup else peak,
        decay_steps=max(round(epochs * steps_per_epoch) - warmup, 1),
        alpha=final / peak,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


@keras.saving.register_keras_serializable(package="eai_notebook")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc,unused-ignore]
    """A linear warm-up to the first rate, then the other rates from given steps on.

    Args:
        initial: The rate of step 0.
        warmup: Steps until ``rates[0]`` is reached.
        rates: The rates after the warm-up.
        ends: The steps at which the next rate begins, one fewer than `rates`, rising.

    Examples:
        >>> schedule = WarmupSteps(0.0, 2, [1.0, 0.5], [4])
        >>> [float(schedule(step)) for step in range(5)]
        [0.0, 0.5, 1.0, 1.0, 0.5]
    """

    def __init__(
        self, initial: float, warmup: int, rates: Sequence[float], ends: Sequence[int]
    ) -> None:
        super().__init__()
        if len(ends) != len(rates) - 1:
            raise EaiError(
                f"{len(rates)} rates have {len(ends)} steps between them",
                "use one step fewer than rates",
                code="schedule-invalid",
            )
        self.initial = float(initial)
        self.warmup = int(warmup)
        self.rates = [float(rate) for rate in rates]
        self.ends = [int(end) for end in ends]

    def __call__(self, step: Any) -> Any:
        """Return the rate of update number `step`, a float32 scalar."""
        step = keras.ops.cast(step, "float32")
        rate = keras.ops.convert_to_tensor(self.rates[0], "float32")
        for end, following in zip(self.ends, self.rates[1:], strict=True):
            rate = keras.ops.where(step >= end, following, rate)
        if not self.warmup:
            return rate
        ramp = self.initial + (self.rates[0] - self.initial) * (step / self.warmup)
        return keras.ops.where(step < self.warmup, ramp, rate)

    def get_config(self) -> dict[str, Any]:
        """Return the schedule's arguments."""
        return {
            "initial": self.initial,
            "warmup": self.warmup,
            "rates": self.rates,
            "ends": self.ends,
        }


def _check_steps(steps_per_epoch: int) -> None:
    if steps_per_epoch < 1:
        raise EaiError(
            f"steps_per_epoch is {steps_per_epoch!r}",
            "use the steps of an epoch, such as data.steps_per_epoch",
            code="schedule-invalid",
        )
