"""A kernel on sockets in the file system, for tests that run beside others.

A kernel manager picks free TCP ports and the kernel binds them seconds later; with many tests side
by side another program has one of them by then, and the kernel dies.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
from jupyter_client.manager import KernelManager
from traitlets.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode


@contextlib.contextmanager
def socket_files() -> Iterator[dict[str, str]]:
    """Yield a kernel manager's options for sockets in a folder of this user's own.

    It is not pytest's folder: the path of a socket may have 107 characters.
    """
    with tempfile.TemporaryDirectory(prefix="k", ignore_cleanup_errors=True) as folder:
        yield {"transport": "ipc", "ip": str(Path(folder, "k"))}


@contextlib.contextmanager
def running_kernel(**options: Any) -> Iterator[KernelManager]:
    """Start a kernel with `options` of ``start_kernel``, and end it."""
    with socket_files() as sockets:
        manager = KernelManager(**sockets)
        manager.start_kernel(**options)
        try:
            yield manager
        finally:
            manager.shutdown_kernel(now=True)


def execute_notebook(book: NotebookNode, folder: Path, **options: Any) -> NotebookNode:
    """Execute a notebook in `folder` with `options` of nbclient, as nbconvert does."""
    resources = {"metadata": {"path": str(folder)}}
    with socket_files() as sockets:
        config = Config({"KernelManager": sockets})
        client = nbclient.NotebookClient(book, resources=resources, config=config, **options)
        return client.execute()
