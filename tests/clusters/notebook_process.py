"""A notebook's process with a group of two ranks, which is then killed, alone or with all that watches it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROGRAM = Path(__file__).parent / "programs" / "group_that_stays.py"


@contextlib.contextmanager
def killed_at_the_end(
    options: Mapping[str, Any], *, with_its_machine: bool, **environment: str
) -> Iterator[None]:
    """Run the block while the group is up, then kill the notebook.

    ``with_its_machine`` kills all that could end the group from here as well; the lease on its side is left.
    """
    with subprocess.Popen(
        [sys.executable, str(_PROGRAM), json.dumps(dict(options))],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as notebook:
        assert notebook.stdout is not None
        pids = [int(pid) for pid in notebook.stdout.readline().split()]
        try:
            yield
            for pid in pids if with_its_machine else ():
                for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                    process.kill()
        finally:
            notebook.kill()
