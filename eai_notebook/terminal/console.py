"""Output of the commands: results to stdout, everything else to stderr."""

from __future__ import annotations

import re
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Plain(Console):
    """A console that shows text, and lets none of it steer the terminal.

    The name of a run or a host may be somebody else's. An escape sequence in it could rewrite
    what stands above, or the title of the window.
    """

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print `objects`; control characters in texts are shown as ``?``."""
        shown = [_CONTROL.sub("?", each) if isinstance(each, str) else each for each in objects]
        super().print(*shown, **settings)


out: Final = _Plain(soft_wrap=True)
err: Final = _Plain(stderr=True, soft_wrap=True)


def fail(message: str, code: str = "") -> None:
    """Print `message` as the error that ended the command, with its `code` if it has one."""
    label = f"error [{code}]:" if code else "error:"
    err.print(f"[bold red]{escape(label)}[/] {escape(message)}", highlight=False)


def note(message: str) -> None:
    """Print `message` as a line of progress."""
    err.print(escape(message), highlight=False)
