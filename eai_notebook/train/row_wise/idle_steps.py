"""Closed forms of steps without a gradient: how they change a row, for each of Keras's optimizers.

Without a gradient an average only decays: after j steps it is ``beta**j`` of what it was. Where it
still moves the weight, as in Adam, the weight has moved by

    m / (sqrt(v) + eps) * sum over j of A(j) * beta_1**j / ((1 - y) * h**j + y)

with ``y = eps / (sqrt(v) + eps)``, ``h = sqrt(beta_2)`` and the step's own rate and bias correction
in ``A(j)``. The sum is a smooth function of y in [0, 1], and the same for all numbers of all rows
that wait since the same step. So it is kept as a polynomial in y for each such step, and a row costs
a few multiplications however long it has waited.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import tensorflow as tf

WINDOW: Final = 1024
"""Steps after which all rows are brought up to date: no row waits longer."""
_DEGREES: Final = (1, 3, 4, 5, 6, 8, 10, 12, 16, 20)
_TOLERANCE: Final = 2e-9


@dataclass(frozen=True)
class Drift:
    """How the weight moves in steps without a gradient.

    Attributes:
        factor: From the rows of all slots to what the sum is multiplied by.
        share: From the same to y; None where the sum does not depend on it.
        rate: From learning rate and the step's number, from 1 on, to A, float32.
        decay: beta_1 above.
        slower: h above.
    """

    factor: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
    rate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    decay: float
    share: Callable[[Mapping[str, tf.Tensor]], tf.Tensor] | None = None
    slower: float = 1.0


@dataclass(frozen=True)
class IdleStep:
    """What a step without a gradient does to a row.

    Attributes:
        slots: The optimizer's lists of variables, by the attributes that hold them.
        decays: What each of them is multiplied by; 1 where it is not named.
        drift: How the weight moves, None if it does not.
        solve: For an optimizer that computes the weight anew from its slots in every step: from the
            slots' rows and the rate of the last step to the weight.
        is_known: False where no closed form is known.
    """

    slots: tuple[str, ...] = ()
    decays: Mapping[str, float] = field(default_factory=dict)
    drift: Drift | None = None
    solve: Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor] | None = None
    is_known: bool = True

    @property
    def moves_weights(self) -> bool:
        """Whether weights change without a gradient."""
        return self.drift is not None or self.solve is not None


def idle_step(optimizer: Any) -> IdleStep | None:
    """Return what `optimizer` does to rows without a gradient; None if it looks at whole tables.

    Optimizers are recognized by their ``update_step``, so that classes derived from them count, too.

    Examples:
        >>> idle_step(keras.optimizers.Adam()).slots
        ('_momentums', '_velocities')
        >>> idle_step(keras.optimizers.Lamb()) is None
        True
    """
    step = type(optimizer).update_step
    for kind, describe in _KINDS.items():
        if step is kind.update_step:
            return describe(optimizer)
    return None


def terms(drift: Drift | None) -> np.ndarray | None:
    """Return the sum's terms without A, as polynomials in ``2 * y - 1``.

    Returns:
        float64 ``[WINDOW + 1, coefficients]`` by j, lowest degree first; zeros at j = 0. None where
        no polynomial of a reasonable degree is exact enough.

    Examples:
        >>> terms(idle_step(keras.optimizers.Adam()).drift).shape[0] == WINDOW + 1
        True
    """
    return np.zeros((WINDOW + 1, 1)) if drift is None else _fitted(drift.decay, drift.slower)


@functools.cache
def _fitted(decay: float, slower: float) -> np.ndarray | None:
    """Return the terms, fitted with the lowest degree that is exact enough."""
    steps = np.arange(WINDOW + 1.0)[:, None]

    def direct(y: np.ndarray) -> np.ndarray:
        values = decay**steps / ((1 - y) * slower**steps + y)
        values[0] = 0
        return np.asarray(values)

    checked = np.linspace(0, 1, 201)
    exact = direct(checked).sum(axis=0)
    for degree in _DEGREES:
        nodes = np.polynomial.chebyshev.chebpts1(degree)
        fitted = np.polynomial.chebyshev.chebfit(nodes, direct((nodes + 1) / 2).T, degree - 1)
        powers = np.zeros((degree, degree))
        for power, row in enumerate(np.eye(degree)):
            polynomial = np.polynomial.chebyshev.cheb2poly(row)
            powers[power, : len(polynomial)] = polynomial
        plain = np.asarray(fitted.T @ powers)
        found = np.polynomial.polynomial.polyval(2 * checked - 1, plain.sum(axis=0))
        if np.max(np.abs(found / exact - 1)) < _TOLERANCE:
            return plain
    return None


# ------------------------------------------------------------------- the optimizers


def _sgd(optimizer: Any) -> IdleStep:
    mu = float(optimizer.momentum)
    if not mu:
        return IdleStep()
    scale = -mu if optimizer.nesterov else -1.0
    drift = Drift(
        factor=lambda rows: rows["momentums"] * scale, rate=lambda lr, _: lr * 0 + 1, decay=mu
    )
    return IdleStep(("momentums",), {"momentums": mu}, drift)


def _adam(optimizer: Any) -> IdleStep:
    import tensorflow as tf

    beta_1, beta_2, epsilon = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    slots: tuple[str, ...] = ("_momentums", "_velocities")
    largest = optimizer.amsgrad
    if largest:
        slots = (*slots, "_velocity_hats")

    def below(rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.sqrt(rows["_velocity_hats" if largest else "_velocities"]) + epsilon

    def rate(lr: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        # In float32 and in Keras's order: 1 - beta_2**step has few digits in the first steps.
        first, second = tf.pow(tf.constant(beta_1), step), tf.pow(tf.constant(beta_2), step)
        return lr * tf.sqrt(1 - second) / (1 - first)

    drift = Drift(
        factor=lambda rows: rows["_momentums"] / below(rows),
        share=None if largest else lambda rows: epsilon / below(rows),
        rate=rate,
        decay=beta_1,
        slower=1.0 if largest else beta_2**0.5,
    )
    return IdleStep(slots, {"_momentums": beta_1, "_velocities": beta_2}, drift)


def _adamax(optimizer: Any) -> IdleStep:
    import tensorflow as tf

    beta_1, beta_2, epsilon = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    drift = Drift(
        factor=lambda rows: rows["_m"] / (rows["_u"] + epsilon),
        share=lambda rows: epsilon / (rows["_u"] + epsilon),
        rate=lambda lr, step: lr / (1 - tf.pow(tf.constant(beta_1), step)),
        decay=beta_1,
        slower=beta_2,
    )
    return IdleStep(("_m", "_u"), {"_m": beta_1, "_u": beta_2}, drift)


def _lion(optimizer: Any) -> IdleStep:
    import tensorflow as tf

    drift = Drift(factor=lambda rows: tf.sign(rows["_momentums"]), rate=lambda lr, _: lr, decay=1.0)
    return IdleStep(("_momentums",), {"_momentums": optimizer.beta_2}, drift)


def _rmsprop(optimizer: Any) -> IdleStep:
    slots, decays, drift = ["_velocities"], {"_velocities": optimizer.rho}, None
    if optimizer.momentum > 0:
        slots.append("_momentums")
        decays["_momentums"] = optimizer.momentum
        drift = Drift(
            factor=lambda rows: rows["_momentums"],
            rate=lambda lr, _: lr * 0 + 1,
            decay=optimizer.momentum,
        )
    if optimizer.centered:
        slots.append("_average_gradients")
        decays["_average_gradients"] = optimizer.rho
    return IdleStep(tuple(slots), decays, drift)


def _adadelta(optimizer: Any) -> IdleStep:
    slots = ("_accumulated_grads", "_accumulated_delta_vars")
    return IdleStep(slots, dict.fromkeys(slots, optimizer.rho))


def _ftrl(optimizer: Any) -> IdleStep:
    import tensorflow as tf

    least = optimizer.l1_regularization_strength

    def solve(rows: Mapping[str, tf.Tensor], rate: tf.Tensor) -> tf.Tensor:
        strength = optimizer.l2_regularization_strength + optimizer.beta / (2.0 * rate)
        power = tf.pow(rows["_accumulators"], -optimizer.learning_rate_power)
        linear = rows["_linears"]
        clipped = tf.clip_by_value(linear, -least, least)
        return (clipped - linear) / (power / rate + 2 * strength)

    # With shrinkage the linear term changes by the weight in every step, which has no closed form.
    known = not optimizer.l2_shrinkage_regularization_strength and not optimizer.use_ema
    return IdleStep(("_accumulators", "_linears"), solve=solve, is_known=known)


_KINDS: Final[dict[Any, Callable[[Any], IdleStep]]] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adam: _adam,
    keras.optimizers.Adagrad: lambda _: IdleStep(("_accumulators",)),
    keras.optimizers.Adadelta: _adadelta,
    keras.optimizers.Adamax: _adamax,
    keras.optimizers.Ftrl: _ftrl,
    keras.optimizers.Lion: _lion,
    keras.optimizers.Nadam: lambda _: IdleStep(("_momentums", "_velocities"), is_known=False),
    keras.optimizers.RMSprop: _rmsprop,
}
