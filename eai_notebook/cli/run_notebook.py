"""Execute a notebook without a browser and stream its output."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from eai_notebook.errors import EaiError

CELL_SECONDS = 900
"""More than any cell of ours needs on a slow machine; a cell that hangs still ends."""


@dataclass(frozen=True)
class Listener:
    """Callbacks for the progress of the execution.

    ``cell(number, count, title)`` when a code cell starts (counted from 1),
    ``text(stream)`` for its output, ``done(seconds)`` when it has ended.
    """

    cell: Callable[[int, int, str], None]
    text: Callable[[str], None]
    done: Callable[[float], None]


def execute(notebook: NotebookNode, folder: Path, listener: Listener) -> None:
    """Execute `notebook` in place, in a kernel of this Python with working folder `folder`.

    Outputs and widget state are in the notebook afterwards, also when a cell failed.

    Raises:
        EaiError: A cell raised or did not end; its error is the last output in the notebook.
    """
    client = _Client(notebook, folder, listener)
    try:
        client.execute()
    except CellExecutionError as error:
        raise EaiError(
            f"a cell of the notebook failed with {error.ename}: {error.evalue}",
            "its traceback is above and in the executed notebook",
            code="notebook-failed",
        ) from error
    except TimeoutError as error:
        raise EaiError(
            f"a cell of the notebook did not end in {CELL_SECONDS} s",
            "read the log above",
            code="notebook-failed",
        ) from error


class _OurKernel(KernelSpecManager):
    """Offers one kernel: this Python.

    A kernel called python3 in the user's own folders may belong to another environment.
    """

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            # Its warning that loopback is not encrypted would stand above every demo.
            argv=[
                *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
                "--log-level=ERROR",
            ],
            display_name=kernel_name,
            language="python",
        )


class _Client(NotebookClient):
    """Reports cells and streams to a listener as they arrive."""

    def __init__(self, notebook: NotebookNode, folder: Path, listener: Listener) -> None:
        super().__init__(
            notebook,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(folder)}},
            store_widget_state=True,
        )
        self._listener = listener
        self._code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self._began = 0.0
        self.on_cell_start = self._cell_starts
        self.on_cell_executed = self._cell_ended

    def create_kernel_manager(self) -> AsyncKernelManager:
        """Make the manager here: one that was handed in would not be shut down."""
        self.km = AsyncKernelManager(kernel_spec_manager=_OurKernel())
        return self.km

    def _cell_starts(self, cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type != "code":
            return
        self._began = time.monotonic()
        number = self._code.index(cell_index) + 1
        self._listener.cell(number, len(self._code), title_of(self.nb, cell_index))

    def _cell_ended(self, cell: NotebookNode, cell_index: int, execute_reply: Any) -> None:
        del cell, cell_index, execute_reply
        self._listener.done(time.monotonic() - self._began)

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        kind, content = msg["msg_type"], msg["content"]
        if kind == "stream":
            self._listener.text(content["text"])
        elif kind == "error":
            self._listener.text("\n".join(content["traceback"]) + "\n")
        output: NotebookNode | None = super().process_message(msg, cell, cell_index)
        return output


def title_of(notebook: NotebookNode, index: int) -> str:
    """Return a title for the code cell at `index`: the heading above it, or its first line."""
    before = notebook.cells[index - 1] if index else None
    if before is not None and before.cell_type == "markdown":
        headings = [line for line in before.source.splitlines() if line.startswith("#")]
        if headings:
            return str(headings[-1].lstrip("#").strip())
    lines = [line.strip() for line in notebook.cells[index].source.splitlines()]
    return next((str(line) for line in lines if line and not line.startswith("# ")), "")


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook in the current format."""
    return nbformat.read(path, as_version=4)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook."""
    nbformat.write(notebook, path)


def write_html(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook as one HTML file that needs no network.

    HTML is preferred to widgets, which would need scripts from a server; formulas stay text for the
    same reason.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    order = ["text/html", "image/svg+xml", "image/png", "text/plain"]
    chosen = Config({"NbConvertBase": {"display_data_priority": order}})
    exporter = HTMLExporter(
        config=chosen,
        jquery_url="",
        mathjax_url="",
        mermaid_js_url="",
        mermaid_layout_elk_js_url="",
        require_js_url="",
        widget_renderer_url="",
    )
    page = copy.deepcopy(notebook)
    page.metadata.pop("widgets", None)
    body, _ = exporter.from_notebook_node(page)
    path.write_text(body, encoding="utf-8")
