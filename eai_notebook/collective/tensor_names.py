"""Translate Horovod's tensor names to the names a user knows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN: Final = 4
"""How many variables are named."""

_SEVERAL: Final = ("float", "bfloat", "half", "int16", "int32", "int64", "uint")
"""How the kinds of messages begin that hold several whole gradients."""

_GRADIENT: Final = re.compile(
    r"eai\.([0-9a-f]{8})\.(?:gradient|rows)\.((?:[a-z]+[0-9]*\.)?)([0-9]+(?:\.[0-9]+)*)"
)
_scopes: dict[str, tuple[str, ...]] = {}


def register(scope: str, variables: Sequence[str]) -> None:
    """Note the variables whose gradients are exchanged under `scope`, in their order."""
    _scopes[scope] = tuple(variables)


def describe(tensor: str) -> str:
    """Return what the exchange called `tensor` carries, in words where it is known.

    Examples:
        >>> register("0badcafe", ["dense/kernel", "dense/bias"])
        >>> describe("eai.0badcafe.gradient.float32.0.1")
        'the gradients of `dense/kernel`, `dense/bias`'
        >>> describe("cond/eai.0badcafe.gradient.1_1"), describe("eai.numpy.3")
        ('the gradient of `dense/bias`', '`eai.numpy.3`')
    """
    found = _GRADIENT.search(tensor)
    names = _scopes.get(found[1]) if found else None
    if found is None or names is None:
        return f"`{tensor}`"
    numbers = [int(each) for each in found[3].split(".")]
    # (Messages of a narrow format have a first variable, and where in it they begin.)
    positions = numbers if found[2].startswith(_SEVERAL) else numbers[:1]
    known = [names[position] for position in positions if position < len(names)]
    if not known:
        return f"`{tensor}`"
    return f"the gradient{'s' * (len(known) > 1)} of {named(known)}"


def named(variables: Sequence[str]) -> str:
    """Return a few names in a row.

    Examples:
        >>> named(["a", "b", "c", "d", "e", "f"])
        '`a`, `b`, `c`, `d` and 2 more'
    """
    shown = ", ".join(f"`{name}`" for name in variables[:_SHOWN])
    more = len(variables) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
