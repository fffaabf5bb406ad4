"""The magics `%eai` and `%%distributed`: parse the line, call the session, show the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.magics.notebook import EaiMagics
from eai_notebook.magics.parser import match_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def register(shell: InteractiveShell) -> None:
    """Register the magics and their completion in `shell`."""
    magics = EaiMagics(shell)
    shell.register_magics(magics)
    shell.events.register("post_run_cell", magics.point_to_ranks)
    known = shell.Completer.custom_matchers
    if match_line not in known:
        known.append(match_line)
