"""Output of the commands: results to stdout, everything else to stderr."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def fail(message: str, code: str = "") -> None:
    """Print `message` as the error that ended the command, with its `code` if it has one."""
    label = f"error [{code}]:" if code else "error:"
    err.print(f"[bold red]{escape(label)}[/] {escape(message)}", highlight=False)


def note(message: str) -> None:
    """Print `message` as a line of progress."""
    err.print(escape(message), highlight=False)
