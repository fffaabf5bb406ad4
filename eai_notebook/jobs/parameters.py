"""Parameters of a notebook: values that replace the defaults of its cells tagged `parameters`.

They are given as papermill has them: a cell after the tagged one, tagged `injected-parameters`, assigns
the values. There may be several tagged cells here, and they may be `%%distributed`: a parameter is
assigned where its default is.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from nbformat import v4

from eai_notebook.errors import EaiError
from eai_notebook.jobs.cell_code import assigned_names, cell_magic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

TAG: Final = "parameters"
INJECTED: Final = "injected-parameters"


def parse_value(text: str) -> Any:
    """Return the value of a parameter on a command line: a literal of Python, or else the text.

    Examples:
        >>> parse_value("0.1"), parse_value("[1, 2]"), parse_value("data/train"), parse_value("true")
        (0.1, [1, 2], 'data/train', True)
    """
    words = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def inject(notebook: NotebookNode, values: Mapping[str, Any]) -> None:
    """Have the cells of `notebook` that come after the tagged ones see `values`.

    Raises:
        EaiError: No tagged cell assigns one of the names.

    Examples:
        >>> cell = v4.new_code_cell("rate = 0.1", metadata={"tags": ["parameters"]})
        >>> notebook = v4.new_notebook(cells=[cell])
        >>> inject(notebook, {"rate": 0.5})
        >>> print(notebook.cells[1].source)
        # Parameters
        rate = 0.5
    """
    cells = [cell for cell in notebook.cells if INJECTED not in _tags(cell)]
    known: dict[int, set[str]] = {
        index: assigned_names(cell.source) for index, cell in enumerate(cells) if TAG in _tags(cell)
    }
    defaults = set().union(*known.values())
    unknown = [name for name in values if name not in defaults]
    if unknown:
        there = f"it has {', '.join(sorted(defaults))}" if defaults else "no cell has that tag"
        raise EaiError(
            f"the notebook has no parameter {', '.join(unknown)} ({there})",
            "assign its default in a cell that is tagged `parameters`",
            code="parameter-unknown",
        )
    notebook.cells = []
    for index, cell in enumerate(cells):
        notebook.cells.append(cell)
        own = [name for name in values if name in known.get(index, ())]
        if own:
            lines = ["# Parameters", *(f"{name} = {values[name]!r}" for name in own)]
            source = "\n".join([*cell_magic(cell.source), *lines])
            notebook.cells.append(v4.new_code_cell(source, metadata={"tags": [INJECTED]}))


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", []) if cell.cell_type == "code" else []
