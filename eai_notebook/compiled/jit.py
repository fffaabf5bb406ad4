"""Compile a function with Numba once and cache the result on disk where possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., object]")


def compiled(function: Function) -> Function:
    """Compile `function` when it is first called, to run without holding the interpreter.

    The result is kept beside the module, or else in the user's cache folder. Where neither
    may be written, as in some containers, each process compiles for itself.
    """
    try:
        kept: Function = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba's "no locator available": nowhere to keep it
        kept = njit(nogil=True)(function)
    return kept
