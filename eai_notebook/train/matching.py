"""Which gradient of this rank is averaged with which of the others: by variable, not by position.

A set, or a dict that was filled in another order, gives one rank its variables in another
order than the rest. Gradients of the same shape would then be averaged with those of other
variables, and nobody would see it. So the first time that gradients of some variables are
exchanged, the ranks compare what they have, once, and agree on rank 0's order.

What is known of variables is known of these objects, not of their names: Keras gives a name again
after `clear_session`, and where one rank has made more layers, its names are others. Ranks that
knew a name each of another time would not compare together.
"""

from __future__ import annotations

import itertools
import weakref
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook import collective
from eai_notebook.collective.membership import members
from eai_notebook.collective.tensor_names import named, register
from eai_notebook.errors import EaiError
from eai_notebook.train.sharded import sharded_variables

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = tuple[str, str, tuple[int | None, ...] | None]
"""A variable's name, what its gradient is (``""``: there is none), and its shape."""


@dataclass(frozen=True)
class Order:
    """The order in which all ranks exchange the gradients of some variables.

    Attributes:
        positions: Where this rank's list has the gradient that is exchanged first, second, ...
        names: Rank 0's names of the variables, in that order.
        scope: Distinguishes these exchanges from those of other variables; equal on all ranks.
    """

    positions: tuple[int, ...]
    names: tuple[str, ...]
    scope: str

    def sort(self, own: Sequence[Any]) -> list[Any]:
        """Return this rank's list in this order.

        Examples:
            >>> Order((2, 0, 1), ("a", "b", "c"), "").sort(["second", "third", "first"])
            ['first', 'second', 'third']
        """
        return [own[position] for position in self.positions]

    def back(self, exchanged: Sequence[Any]) -> list[Any]:
        """Return what was exchanged in this order in that of this rank's list.

        Examples:
            >>> Order((2, 0, 1), ("a", "b", "c"), "").back(["third", "first", "second"])
            ['first', 'second', 'third']
        """
        found: list[Any] = [None] * len(self.positions)
        for position, value in zip(self.positions, exchanged, strict=True):
            found[position] = value
        return found


@dataclass(frozen=True)
class _Agreed:
    own: tuple[Item, ...]
    names: tuple[str, ...]
    scope: str


_agreed: dict[tuple[Any, ...], _Agreed] = {}
_orders: dict[tuple[Any, ...], Order] = {}
_serials: dict[int, tuple[weakref.ref[Any], int]] = {}
_next_serial = itertools.count().__next__


def agree(gradients: Sequence[Any], variables: Sequence[Any]) -> Order:
    """Return the order in which to exchange `gradients`; all ranks must call it together.

    The ranks talk only the first time that it is asked for these variables, whatever their
    order. ``variables`` may be names.

    Raises:
        EaiError: The ranks have gradients of different variables, or one of them lacks some
            that others have; on all ranks.

    """
    own = _items(gradients, variables)
    these = tuple((_serial(variable), *item) for variable, item in zip(variables, own, strict=True))
    ring = members()
    if (ring, these) not in _orders:
        # Sorted, so that another order of the same variables is no reason to talk again.
        key = (ring, tuple(sorted(these, key=repr)))
        if key not in _agreed:
            _agreed[key] = _meet(own)
        known = _agreed[key]
        _orders[ring, these] = Order(_places(own, known.own), known.names, known.scope)
    return _orders[ring, these]


def forget(variables: Sequence[Any]) -> None:
    """Have the ranks compare again what they have of `variables`; all ranks must call it together."""
    for variable in variables:
        _serials.pop(id(variable), None)


def _serial(variable: Any) -> int | None:
    """Return a number that no other variable of this process ever has; None for a name."""
    key = id(variable)
    known = _serials.get(key)
    if known is None or known[0]() is not variable:
        try:
            seen = weakref.ref(variable, lambda _: _serials.pop(key, None))
        except TypeError:  # a text, or what cannot be followed
            return None
        known = _serials[key] = seen, _next_serial()
    return known[1]


def _items(gradients: Sequence[Any], variables: Sequence[Any]) -> tuple[Item, ...]:
    return tuple(
        (_name(variable), _kind(gradient), _shape(variable))
        for gradient, variable in zip(gradients, variables, strict=True)
    )


def _name(variable: Any) -> str:
    name = variable if isinstance(variable, str) else getattr(variable, "path", variable.name)
    return str(name).removesuffix(":0")  # TensorFlow numbers outputs, of which a variable has one


def _kind(gradient: Any) -> str:
    if gradient is None:
        return ""
    sparse = hasattr(gradient, "indices")
    dtype = getattr(gradient, "dtype", None) or np.asarray(gradient).dtype
    return f"{'rows' if sparse else 'dense'} {getattr(dtype, 'name', dtype)}"


def _shape(variable: Any) -> tuple[int | None, ...] | None:
    """Return a variable's shape; None for a part of a table, which may differ by rank."""
    if isinstance(variable, str) or sharded_variables.shard_of(variable) is not None:
        return None
    return tuple(variable.shape)


def _meet(own: tuple[Item, ...]) -> _Agreed:
    """Compare what the ranks have; return rank 0's order of this rank's variables."""
    first: tuple[Item, ...] = collective.broadcast_object(own)
    problem = _difference(own, first)
    problems = [collective.broadcast_object(problem, root) for root in _odd(problem)]
    if problems:
        raise EaiError(
            problems[0],
            "compute gradients of the same variables on all ranks, also of those that play no "
            "part in a rank's batch: add their output times 0.0, or pass zeros",
            code="gradients-differ",
        )
    names = tuple(name for name, _, _ in first)
    scope = f"{zlib.crc32(repr(first).encode()):08x}"
    register(scope, names)
    return _Agreed(_in_order(own, first), names, scope)


def _odd(problem: str | None) -> list[int]:
    """Return the ranks that have a problem; all must ask together."""
    table = collective.gather_numpy(np.array([int(problem is not None)], np.int64))
    return [int(rank) for rank in np.flatnonzero(table[:, 0])]


def _in_order(own: tuple[Item, ...], first: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return this rank's variables in rank 0's order."""
    return first if sorted(own, key=repr) == sorted(first, key=repr) else own


def _difference(own: tuple[Item, ...], first: tuple[Item, ...]) -> str | None:
    """Return why these gradients cannot be averaged with rank 0's; None if they can be."""
    me = f"rank {collective.rank()}"
    if own == first:
        return None
    if sorted(own, key=repr) == sorted(first, key=repr):
        if len(set(own)) == len(own):
            return None
        twice = next(item[0] for item in own if own.count(item) > 1)
        return (
            f"{me} has its variables in another order than rank 0, and several are called "
            f"`{twice}`: it is unclear which gradients belong together"
        )
    return _lacking(own, first) or _unlike(own, first)


def _lacking(own: tuple[Item, ...], first: tuple[Item, ...]) -> str | None:
    """Return which of the same variables have a gradient on one rank only."""
    mine, theirs = {name: kind for name, kind, _ in own}, {name: kind for name, kind, _ in first}
    if mine.keys() != theirs.keys():
        return None
    me = f"rank {collective.rank()}"
    lacking = [name for name, kind in mine.items() if not kind and theirs[name]]
    extra = [name for name, kind in mine.items() if kind and not theirs[name]]
    if lacking:
        return f"{me} has no gradient of {named(lacking)}, and rank 0 has one"
    return f"rank 0 has no gradient of {named(extra)}, and {me} has one" if extra else None


def _unlike(own: tuple[Item, ...], first: tuple[Item, ...]) -> str | None:
    """Return where gradients differ in shape or kind, in their order."""
    me = f"rank {collective.rank()}"
    # Keras numbers layers by how many a process has made, so names alone may differ.
    if [item[1:] for item in own] == [item[1:] for item in first]:
        return None
    if len(own) != len(first):
        return f"{me} exchanges {len(own)} gradients, and rank 0 {len(first)}"
    odd, other = next((a, b) for a, b in zip(own, first, strict=True) if a[1:] != b[1:])
    return f"{me} exchanges {_words(odd)} where rank 0 exchanges {_words(other)}"


def _places(own: tuple[Item, ...], wanted: tuple[Item, ...]) -> tuple[int, ...]:
    """Return where `own` has each of `wanted`; those that are alike keep their order."""
    where: dict[Item, list[int]] = {}
    for position, item in enumerate(own):
        where.setdefault(item, []).append(position)
    return tuple(where[item].pop(0) for item in wanted)


def _words(item: Item) -> str:
    name, kind, shape = item
    what = f"the gradient of `{name}`" if kind else f"no gradient of `{name}`"
    return what if shape is None else f"{what} of shape {shape}"
