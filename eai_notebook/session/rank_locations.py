"""Describe where the ranks are; ranks on the same line are grouped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_S = 2.0
"""How long a rank may take to answer; one inside C code that keeps Python's lock cannot."""


def describe_locations(ranks: Sequence[int], found: Mapping[int, dict[str, Any] | None]) -> str:
    """Return a line for each group of `ranks`, and below it how the cell got there.

    ``found`` holds what each rank answered: the fields of a `StackLocation`, or None
    between cells. A rank that did not answer is not in it.

    Examples:
        >>> print(describe_locations([0, 1], {0: None}))
        rank 0: between cells
        rank 1: gives no answer; it is inside code that does not let Python run
        >>> step = {"exchange": None, "inside": "tensorflow.python.eager.execute.quick_execute",
        ...         "compiled": True, "steps": 20, "path": [(3, "model.fit(data)")]}
        >>> print(describe_locations([0, 1], {0: step, 1: step}))
        ranks 0-1: in a computation of TensorFlow after 20 steps
            line 3: `model.fit(data)`
    """
    locations: dict[str, list[int]] = {}
    for rank in ranks:
        locations.setdefault(_location(rank, found), []).append(rank)
    return "\n".join(f"{name_ranks(who)}: {location}" for location, who in locations.items())


def _location(rank: int, found: Mapping[int, dict[str, Any] | None]) -> str:
    if rank not in found:
        return "gives no answer; it is inside code that does not let Python run"
    where = found[rank]
    if where is None:
        return "between cells"
    steps = where["steps"]
    doing = f"waits in {where['exchange']}" if where["exchange"] else f"in {where['inside']}"
    if where["compiled"] and not where["exchange"]:
        # The function that runs it is the same for everything: it says nothing.
        doing = "in a computation of TensorFlow"
    after = "" if steps is None else f" after {steps} step{'s' * (steps != 1)}"
    stack = [f"    line {line}: `{code}`" for line, code in where["path"]]
    return "\n".join([f"{doing}{after}", *stack])
