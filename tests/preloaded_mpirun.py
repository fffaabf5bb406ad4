"""An ``mpirun`` for groups whose ranks are forks of a `PreloadedPython`.

Run by a script that `write` makes: with the real ``mpirun``, the command of a fork, and the arguments
that the package gives to ``mpirun``, in which the command of a rank is replaced.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RANK = "eai_notebook.cluster.engine_process"
BEFORE = 3
"""Words of a rank's command before the module's name: this Python, ``-c`` and code."""


def write(path: Path, mpirun: str, rank: list[str]) -> None:
    """Write a script that is used as ``mpirun``; `rank` is the command that runs a rank in a fork."""
    words = [sys.executable, "-I", "-S", __file__, mpirun, json.dumps(rank)]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o700)


def main(mpirun: str, rank: str, *words: str) -> None:
    """Become the real ``mpirun``."""
    command = list(words)
    at = command.index(RANK)
    command[at - BEFORE : at + 1] = json.loads(rank)
    os.execv(mpirun, [mpirun, *command])  # noqa: S606 -- the tests' own


if __name__ == "__main__":
    main(*sys.argv[1:])
