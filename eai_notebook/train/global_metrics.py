"""Metrics over all ranks, from their states where that is exact.

The mean of each rank's AUC is not the AUC of all samples. But the states of Keras's own
metrics are sums (of losses, of counts, of true positives per threshold), so they are
added up over the ranks and the metric is computed from the total.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import zlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook import collective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def reduce_metrics(
    model: keras.Model, logs: dict[str, Any], *, same: bool | None = False, copies: int = 1
) -> dict[str, Any]:
    """Return `logs` with the values that hold for all ranks' samples; none for one rank.

    The model's metrics are left with the summed state, as if this rank had seen it all;
    Keras resets them before they are used again. Metrics of the user's own that do more than
    add keep their state and their values are averaged. All ranks must call it.

    Args:
        model: Its metrics hold what this rank has counted.
        logs: This rank's values, by name.
        same: Whether all ranks have counted the same rows, which then count once. None to
            find out: ranks whose states are equal to the last bit have.
        copies: How many ranks have counted each row, in batches of their own: what all have
            counted is divided by it.
    """
    if collective.size() == 1:
        return {}
    if same or (same is None and _equal_states(model)):
        return _averaged(logs) if logs else {}
    states = [
        variable
        for metric in leaves(model.metrics)
        for variable in metric.variables
        if is_additive(metric)
    ]
    flat = [np.asarray(variable, np.float64).ravel() for variable in states]
    local = model.get_metrics_result()
    total = collective.allreduce_numpy(np.concatenate([*flat, np.zeros(1)])) / copies
    position = 0
    for variable, values in zip(states, flat, strict=True):
        variable.assign(total[position : position + values.size].reshape(variable.shape))
        position += values.size
    return of_all_ranks(logs, local, model.get_metrics_result())


def of_all_ranks(
    logs: dict[str, Any], local: dict[str, Any], total: dict[str, Any]
) -> dict[str, Any]:
    """Return `logs` with the values that hold for all ranks; all ranks must call it.

    A value that is this rank's metric of that name, as in `local`, is taken from `total`.
    Others are averaged as they are: a step of the user's own may return its loss under the
    name of a metric that it never updates.
    """
    if not logs or collective.size() == 1:
        return {}
    names = sorted(logs)
    metric = [name in local and name in total and _same(logs[name], local[name]) for name in names]
    votes = collective.allreduce_numpy(np.array(metric, np.int64))
    agreed = [name for name, count in zip(names, votes, strict=True) if count == collective.size()]
    return _averaged({**logs, **{name: total[name] for name in agreed}})


def unused(model: keras.Model, logs: Any) -> dict[str, Any]:
    """Return what a step returned, `logs`, for means among the metrics that it never updated.

    Keras reports such a metric as 0.0 where the step returns a value under its name.
    """
    if not isinstance(logs, dict):
        return {}
    idle = {
        metric.name
        for metric in leaves(model.metrics)
        if isinstance(metric, keras.metrics.Mean) and float(np.asarray(metric.count)) == 0.0
    }
    return {name: float(np.mean(logs[name])) for name in sorted(idle & logs.keys())}


def _same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True))


def _equal_states(model: keras.Model) -> bool:
    """Return whether all ranks' metrics have counted the same, and something."""
    states = [np.asarray(v) for metric in leaves(model.metrics) for v in metric.variables]
    bits = b"".join(np.ascontiguousarray(state).tobytes() for state in states)
    mine = np.array([zlib.crc32(bits), any(state.any() for state in states)], np.int64)
    table = collective.gather_numpy(mine)
    return bool((table[:, 0] == table[0, 0]).all() and table[:, 1].all())


def leaves(metrics: Iterable[Any]) -> Iterator[keras.metrics.Metric]:
    """Yield the metrics that hold a state, out of the containers that Keras nests them in."""
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if inner is not None:
            yield from leaves(inner)
        else:
            yield metric


def unbuilt(model: keras.Model) -> list[keras.metrics.Metric]:
    """Return the metrics that `model` was compiled with and does not list yet: it has seen no batch."""
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None or compiled.built:
        return []
    given = [compiled._user_metrics, compiled._user_weighted_metrics]  # noqa: SLF001
    return [each for each in keras.tree.flatten(given) if isinstance(each, keras.metrics.Metric)]


def is_additive(metric: keras.metrics.Metric) -> bool:
    """Return whether a metric's states are sums over rows, which can be added up over ranks.

    Keras's own are; of others, those whose ``update_state`` only adds, or leaves it to Keras's.

    Examples:
        >>> is_additive(keras.metrics.AUC())
        True
    """
    bases = type(metric).__mro__
    keeps = bases[: bases.index(keras.metrics.Metric)]
    own = [base for base in keeps if not base.__module__.startswith("keras.")]
    if len(own) == len(keeps):
        return _only_adds(type(metric))  # type: ignore[arg-type]  # a class is hashable
    return not any(map(_does_more, own))


@functools.cache
def _does_more(kind: type[keras.metrics.Metric]) -> bool:
    """Return whether `kind`, which inherits from a metric of Keras's, is seen to do more than add."""
    if "reset_state" in vars(kind) and "super()" not in _source(kind.reset_state):
        return True
    return "update_state" in vars(kind) and any(
        not _adds(change) and not _is_handed_on(change) for change in _changes(kind.update_state)
    )


def _source(function: Any) -> str:
    """Return a method's source, nothing where it is not known."""
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):  # made by a program, or compiled
        return ""


def _changes(update: Any) -> list[ast.Call]:
    """Return the calls in a method that change a variable, or may do so."""
    try:
        tree = ast.parse(_source(update))
    except SyntaxError:
        return []
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.startswith(("assign", "scatter", "update"))
    ]


def _is_handed_on(change: ast.Call) -> bool:
    """Return whether a call leaves the update to the class that is inherited from."""
    assert isinstance(change.func, ast.Attribute)  # noqa: S101 -- as it was chosen
    begins = ast.unparse(change.func.value).startswith("super(")
    to_self = bool(change.args) and ast.unparse(change.args[0]) == "self"
    return change.func.attr == "update_state" and (begins or to_self)


@functools.cache
def _only_adds(kind: type[keras.metrics.Metric]) -> bool:
    """Return whether all that ``update_state`` and ``reset_state`` do to variables is seen, and adds.

    So do ``self.total.assign_add(...)`` and ``self.total.assign(self.total + ...)``; a state that
    is reset in a way of its own need not begin at zero.
    """
    if kind.reset_state is not keras.metrics.Metric.reset_state:
        return False
    changes = _changes(kind.update_state)
    return bool(changes) and all(map(_adds, changes))


def _adds(change: ast.Call) -> bool:
    """Return whether a call adds to a variable something else than itself."""
    assert isinstance(change.func, ast.Attribute)  # noqa: S101 -- as it was chosen
    variable = ast.unparse(change.func.value)
    if not change.args:
        return False
    value = change.args[0]
    if change.func.attr == "assign_add":
        return variable not in ast.unparse(value)
    if change.func.attr != "assign":
        return False
    terms: list[ast.expr] = []
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        terms = [value.left, value.right]
    elif isinstance(value, ast.Call) and ast.unparse(value.func).endswith("ops.add"):
        terms = list(value.args)
    texts = [ast.unparse(term) for term in terms]
    return texts.count(variable) == 1 and sum(variable in text for text in texts) == 1


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
