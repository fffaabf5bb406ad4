"""Refuse `input()`, `getpass` and debuggers on ranks at once, with the remedy.

`input` and `getpass` belong in a cell of the notebook itself, and a debugger of the terminal would
wait for a terminal that a rank has not got. Debuggers that bring a channel of their own are left.
"""

from __future__ import annotations

import os
import pdb  # noqa: T100
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_REMEDY = (
    "ask in a cell of the notebook without %%distributed, `answer = ...`, then `%eai push answer`"
)
DEBUG_REMEDY = (
    "print what you want to see, or bring it here with `%eai pull NAME --rank N`; "
    "`%eai where` shows where a rank is"
)


def refuse_input(*_: object, **__: object) -> NoReturn:
    """Refuse `input`."""
    raise EaiError("input() cannot ask from a rank", ASK_REMEDY, code="rank-cannot-ask")


def refuse_password(*_: object, **__: object) -> NoReturn:
    """Refuse `getpass.getpass`."""
    raise EaiError("getpass() cannot ask from a rank", ASK_REMEDY, code="rank-cannot-ask")


def refuse_debugger(*_: object, **__: object) -> NoReturn:
    """Refuse `breakpoint`, `pdb.set_trace` and ``%debug``."""
    raise EaiError(
        "a debugger cannot stop a rank and ask what to do", DEBUG_REMEDY, code="rank-cannot-ask"
    )


def install() -> None:
    """Refuse debuggers from now on; and leave nothing to read from standard input."""
    if "PYTHONBREAKPOINT" not in os.environ:  # which names a debugger that may have a channel
        sys.breakpointhook = refuse_debugger
    pdb.set_trace = refuse_debugger  # else it would stop one line later, inside of ours
    pdb.Pdb.interaction = _unless_remote(pdb.Pdb.interaction)  # type: ignore[method-assign]
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)


def _unless_remote(interaction: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse the interaction of a debugger that reads from the terminal."""

    def interact(self: pdb.Pdb, *arguments: Any, **options: Any) -> Any:
        if self.use_rawinput:
            self.set_continue()  # or each line that follows would be refused as well
            refuse_debugger()
        return interaction(self, *arguments, **options)

    return interact
