"""The registry of wire formats: the names in order, and the format of a name.

Formats come from the entry points of the group ``eai_notebook.wire_formats``, the package's own
among them. The kernel asks for names only and loads no format.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from eai_notebook.compression.wire_format import WireFormat

AUTO: Final = "auto"
"""Not a format: the fastest of some, found out by trying them on real steps."""
GROUP: Final = "eai_notebook.wire_formats"
_BUILT_IN: Final = ("fp32", "fp16", "bf16", "int8", "int4")


@cache
def _found() -> dict[str, EntryPoint | None]:
    """Return the entry point of each name; the package's own need none to be installed."""
    others = {point.name: point for point in entry_points(group=GROUP)}
    return {**dict.fromkeys(_BUILT_IN), **others}


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, the package's own first.

    Examples:
        >>> format_names()[:4]
        ('fp32', 'fp16', 'bf16', 'int8')
    """
    return tuple(_found())


def wire_names() -> tuple[str, ...]:
    """Return what ``wire=`` takes: the formats' names, and ``"auto"``.

    Examples:
        >>> wire_names()[-1]
        'auto'
    """
    return (*format_names(), AUTO)


def check_wire(name: str, allowed: tuple[str, ...] | None = None) -> str:
    """Return `name` if it is one of `allowed`, by default of all that ``wire=`` takes.

    Raises:
        EaiError: It is not.
    """
    allowed = wire_names() if allowed is None else allowed
    if name not in allowed:
        raise EaiError(
            f"unknown wire format {name!r}", f"use one of {', '.join(allowed)}", code="wire-format"
        )
    return name


@cache
def wire_format(name: str) -> WireFormat:
    """Return the format `name`; it is loaded on first use.

    Raises:
        EaiError: There is none of that name, or its package cannot be loaded.

    Examples:
        >>> wire_format("int8").bytes_for(256) < wire_format("fp32").bytes_for(256)
        True
    """
    check_wire(name, format_names())
    point = _found()[name]
    if point is None:
        return _load_built_in(name)
    try:
        made: WireFormat = point.load()()
    except Exception as error:
        raise EaiError(
            f"the wire format {name!r} of {point.value} cannot be loaded: {error}",
            "mend or uninstall the package that it comes from",
            code="wire-format-broken",
        ) from error
    return made


def _load_built_in(name: str) -> WireFormat:
    from importlib import import_module

    made: WireFormat = import_module(f"eai_notebook.compression.wire_formats.{name}").FORMAT
    return made


def auto_formats() -> tuple[str, ...]:
    """Return the formats that ``"auto"`` tries, in the order of the registry."""
    return tuple(name for name in format_names() if wire_format(name).in_auto)
