"""Command lines for helper processes that do not import from the working folder.

``python -m NAME`` and ``python -c CODE`` put the working folder first on ``sys.path``. The
notebook's folder may contain a ``random.py`` or ``queue.py``, which a helper process would import
instead of the standard library's. Python 3.11 has ``-P`` for this; here it works on Python 3.10
too, without a variable that the user's programs would inherit. ``PYTHONPATH`` keeps its effect.
"""

from __future__ import annotations

import sys
from typing import Final

WITHOUT_FOLDER: Final = "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]"
"""Prefix of code after ``python -c``; only built-in modules are imported before it."""

_RUN: Final = (
    f"{WITHOUT_FOLDER}; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs module `name` as a program, with this Python.

    Like ``python -m name`` without the working folder. The command contains no path of a file, so
    it also runs on a host where this package is in another folder.

    Examples:
        >>> import subprocess
        >>> done = subprocess.run(module_command("base64", "-t"), capture_output=True)
        >>> done.returncode
        0
    """
    return [sys.executable, "-c", _RUN, name, *arguments]


def code_command(code: str) -> list[str]:
    """Return the command that runs `code`, one line, with this Python."""
    return [sys.executable, "-c", f"{WITHOUT_FOLDER}; {code}"]
