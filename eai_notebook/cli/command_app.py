"""`CommandApp`: a Typer app whose help has paragraphs of the terminal's width, not of the source's."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable


class CommandApp(typer.Typer):
    """Typer's own keeps the line breaks of a docstring, and the terminal adds some of its own."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a command, as Typer does."""

        def add(function: Callable[..., None]) -> Callable[..., None]:
            known = {"help": flowing(function.__doc__ or ""), **settings}
            return super(CommandApp, self).command(name, **known)(function)

        return add


def flowing(text: str) -> str:
    r"""Return a docstring with its paragraphs on a line each.

    Examples:
        >>> flowing("Do it.\n\n    At once, and\n    well.\n    ")
        'Do it.\n\nAt once, and well.'
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)
