"""Command lines of our own Python processes, which a file in the user's folder cannot break.

``python -m NAME`` and ``python -c CODE`` put the working folder first on ``sys.path``. A notebook
lies there, and beside it perhaps a ``random.py`` or ``queue.py`` of the user's, which a helper
process would then import instead of the standard library's. Python 3.11 has ``-P`` against that;
here it is done for Python 3.10 as well, and not by a variable, which the user's own programs would
inherit. ``PYTHONPATH`` keeps its effect.
"""

from __future__ import annotations

import sys
from typing import Final

WITHOUT_FOLDER: Final = "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]"
"""What code after ``python -c`` begins with; nothing but built-in modules is imported before."""

_RUN: Final = (
    f"{WITHOUT_FOLDER}; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs module `name` as a program, in this very Python.

    It does what ``python -m name`` does, but for the working folder. The command holds no
    path of a file, so it also runs on a host that has this package in another place.

    Examples:
        >>> import subprocess
        >>> done = subprocess.run(module_command("base64", "-t"), capture_output=True)
        >>> done.returncode
        0
    """
    return [sys.executable, "-c", _RUN, name, *arguments]


def code_command(code: str) -> list[str]:
    """Return the command that runs `code`, in this very Python; for code of one line."""
    return [sys.executable, "-c", f"{WITHOUT_FOLDER}; {code}"]
