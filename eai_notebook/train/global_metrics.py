"""Metrics over all ranks, from their states where that is exact.

The mean of each rank's AUC is not the AUC of all samples. But the states of Keras's own
metrics are sums (of losses, of counts, of true positives per threshold), so they are
added up over the ranks and the metric is computed from the total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook import collective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def reduce_metrics(model: keras.Model, logs: dict[str, Any]) -> dict[str, Any]:
    """Return `logs` with the values that hold for all ranks' samples; none for one rank.

    The model's metrics are left with the summed state, as if this rank had seen it all;
    Keras resets them before they are used again. Metrics of the user's own keep their
    state and their values are averaged. All ranks must call it.
    """
    if collective.size() == 1:
        return {}
    states = [
        variable
        for metric in leaves(model.metrics)
        for variable in metric.variables
        if is_additive(metric)
    ]
    flat = [np.asarray(variable, np.float64).ravel() for variable in states]
    total = collective.allreduce_numpy(np.concatenate([*flat, np.zeros(1)]))
    place = 0
    for variable, values in zip(states, flat, strict=True):
        variable.assign(total[place : place + values.size].reshape(variable.shape))
        place += values.size
    results = {name: value for name, value in model.get_metrics_result().items() if name in logs}
    return _averaged({**logs, **results}) if logs else {}


def leaves(metrics: Iterable[Any]) -> Iterator[keras.metrics.Metric]:
    """Yield the metrics that hold a state, out of the containers that Keras nests them in."""
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if inner is not None:
            yield from leaves(inner)
        else:
            yield metric


def is_additive(metric: keras.metrics.Metric) -> bool:
    """Keras's own metrics, and what inherits from one, keep sums; others may keep anything."""
    bases = type(metric).__mro__
    keeps = bases[: bases.index(keras.metrics.Metric)]
    return any(base.__module__.startswith("keras.") for base in keeps)


def _averaged(logs: dict[str, Any]) -> dict[str, Any]:
    """Average over the ranks; a value that is the same everywhere stays what it is."""
    names = sorted(logs)
    values = [np.asarray(logs[name], np.float64) for name in names]
    flat = np.concatenate([value.ravel() for value in values])
    mean = collective.allreduce_numpy(flat) / collective.size()
    parts = np.split(mean, np.cumsum([value.size for value in values])[:-1])
    return {
        name: float(part[0]) if value.ndim == 0 else part.reshape(value.shape)
        for name, value, part in zip(names, values, parts, strict=True)
    }
