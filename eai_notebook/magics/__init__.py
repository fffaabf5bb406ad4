"""The magics `%eai` and `%%distributed`: parse the line, call the session, show the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.magics.notebook import EaiMagics
from eai_notebook.magics.parser import complete_distributed, complete_eai

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def register(shell: InteractiveShell) -> None:
    """Give `shell` the magics and their completion."""
    magics = EaiMagics(shell)
    shell.register_magics(magics)
    shell.events.register("post_run_cell", magics.point_to_ranks)
    shell.set_hook("complete_command", complete_eai, str_key="%eai")
    shell.set_hook("complete_command", complete_distributed, str_key="%%distributed")
