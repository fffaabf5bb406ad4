"""Execute a notebook without a browser, stream its output, and stop it on SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable

CELL_SECONDS = 900
"""More than any cell of ours needs on a slow machine; a cell that hangs still ends."""

LEAVE_S = 20.0
"""How long a cell may take to end after a signal, before its kernel is ended."""


class CellFailedError(EaiError):
    """A cell of the notebook raised; ``ename`` is the type of its error, ``cell_code`` the code of an `EaiError`."""

    def __init__(self, ename: str, evalue: str, cell_code: str = "") -> None:
        super().__init__(
            f"a cell of the notebook failed with {ename}: {evalue}",
            "its traceback is above and in the executed notebook",
            code="notebook-failed",
        )
        self.ename = ename
        self.cell_code = cell_code


class _StoppedError(Exception):
    """A signal came between two cells."""


@dataclass(frozen=True)
class Listener:
    """Callbacks for the progress of the execution.

    ``cell(number, count, title)`` when a code cell starts (counted from 1),
    ``text(stream)`` for its output, ``done(seconds)`` when it has ended.
    """

    cell: Callable[[int, int, str], None]
    text: Callable[[str], None]
    done: Callable[[float], None]


def execute(
    notebook: NotebookNode,
    folder: Path,
    listener: Listener,
    *,
    cell_seconds: int | None = CELL_SECONDS,
    modules: Path | None = None,
) -> None:
    """Execute `notebook` in place, in a kernel of this Python with working folder `folder`.

    Outputs and widget state are in the notebook afterwards, also when a cell failed. SIGINT and
    SIGTERM interrupt the cell, and no further one begins; a second signal ends the kernel.

    Args:
        notebook: The notebook, in the current format.
        folder: The kernel's working folder.
        listener: What hears of the progress.
        cell_seconds: How long a cell may take; None for any time.
        modules: A folder in which the kernel looks for modules first, before its working folder.

    Raises:
        CellFailedError: A cell raised; its error is the last output in the notebook.
        EaiError: A cell did not end in time, or the kernel died.
        KeyboardInterrupt: A signal stopped it.
    """
    client = _Client(notebook, folder, listener, cell_seconds, modules)
    try:
        client.run()
    except CellExecutionError as error:
        if client.is_stopped:
            raise KeyboardInterrupt from error
        code = re.search(rf"{error.ename} \[([\w-]+)\]: ", error.traceback)
        raise CellFailedError(error.ename, error.evalue, code[1] if code else "") from error
    except _StoppedError as error:
        raise KeyboardInterrupt from error
    except DeadKernelError as error:
        if client.is_stopped:
            raise KeyboardInterrupt from error
        raise EaiError(
            "the notebook's kernel died",
            "read the log above; it may have had too little memory",
            code="notebook-failed",
        ) from error
    except TimeoutError as error:
        raise EaiError(
            f"a cell of the notebook did not end in {cell_seconds} s",
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

    def __init__(
        self,
        notebook: NotebookNode,
        folder: Path,
        listener: Listener,
        cell_seconds: int | None,
        modules: Path | None,
    ) -> None:
        super().__init__(
            notebook,
            timeout=cell_seconds,
            resources={"metadata": {"path": str(folder)}},
            store_widget_state=True,
        )
        if modules is not None:
            line = f"import sys; sys.path.insert(0, {str(modules)!r}); del sys"
            self.extra_arguments = [f"--IPKernelApp.exec_lines={line}"]
        # Not TCP: a port found free now may be another program's once the kernel binds it, and
        # nobody else on this machine can reach a folder of this user's own.
        self._sockets = tempfile.TemporaryDirectory(prefix="eai-", ignore_cleanup_errors=True)
        self._listener = listener
        self._code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        self._began = 0.0
        self.on_cell_start = self._cell_starts
        self.on_cell_executed = self._cell_ended
        self.on_notebook_start = self._handle_signals
        self.is_stopped = False
        """Whether a signal has come."""
        self._ending: asyncio.Future[None] | None = None

    def run(self) -> None:
        """Execute all cells, and leave no socket behind."""
        with self._sockets:
            self.execute()

    def create_kernel_manager(self) -> AsyncKernelManager:
        """Make the manager here: one that was handed in would not be shut down."""
        sockets = {"transport": "ipc", "ip": str(Path(self._sockets.name, "k"))}
        self.km = AsyncKernelManager(kernel_spec_manager=_OurKernel(), **sockets)
        return self.km

    def _handle_signals(self, **_: Any) -> None:
        """Take the place of nbclient's own handlers, which end the kernel at once."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop)

    def _stop(self) -> None:
        """Interrupt the cell; end the kernel when it is asked again, or the cell goes on."""
        again, self.is_stopped = self.is_stopped, True
        if not again:
            asyncio.get_running_loop().call_later(LEAVE_S, self._stop)
        self._ending = asyncio.ensure_future(self._end_kernel() if again else self._interrupt())

    async def _interrupt(self) -> None:
        if self.km.has_kernel:
            await self.km.interrupt_kernel()

    async def _end_kernel(self) -> None:
        if self.km.has_kernel:
            await self.km.shutdown_kernel(now=True)

    def _cell_starts(self, cell: NotebookNode, cell_index: int) -> None:
        if self.is_stopped:
            raise _StoppedError
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
