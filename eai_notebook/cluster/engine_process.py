"""The program of one rank: ipyparallel's engine, with the user's folder last on ``sys.path``.

Run as ``python_command.module_command("eai_notebook.cluster.engine_process")``. ipyparallel puts
the working folder first, before modules of its own and of TensorFlow are imported: a ``queue.py``
or ``tensorflow.py`` of the user's would keep the rank from starting. Cells can still import the
user's modules.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ipyparallel.engine import nanny
from ipyparallel.engine.app import IPEngine

from eai_notebook.python_command import module_command

_FOLDER = ""
"""The working folder on ``sys.path``, wherever `os.chdir` may lead."""


class Engine(IPEngine):
    """An engine whose imports of the user's modules come last."""

    def init_engine(self) -> None:
        """Set the engine up, then move the working folder to the end of the path."""
        super().init_engine()
        sys.path[:] = [*(entry for entry in sys.path if entry != _FOLDER), _FOLDER]


def _start_apart(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start ``python -m NAME`` as ipyparallel does its nanny, without the user's folder."""
    return subprocess.Popen(module_command(*command[2:]), **how)


def main() -> None:
    """Be an engine until the group ends."""
    nanny.Popen = _start_apart
    Engine.launch_instance()


if __name__ == "__main__":
    main()
