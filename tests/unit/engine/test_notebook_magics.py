"""Commands of the notebook in a cell of the ranks: refused with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from eai_notebook.engine import notebook_magics


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("%eai pull model", "`%eai pull model` was run on a rank"),
        ("%eai", "`%eai` was run on a rank"),
        ("%%distributed\nprint(1)", "leave the line out"),
        ("%distributed", "leave the line out"),
    ],
)
def test_commands_of_the_notebook_are_refused_on_ranks(code: str, said: str) -> None:
    made: Any = InteractiveShell
    shell = made()
    notebook_magics.install(shell)
    error = shell.run_cell(code, silent=True).error_in_exec
    assert said in str(error)
    assert error.code == "on-ranks-already"
