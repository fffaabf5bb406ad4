"""The lease on a job's side: ends the ranks when nobody follows the job from outside any more.

`job_runner` writes a number into a file of the shared folder every few seconds. When the notebook's
machine is gone, the number stands still; when its group was ended, the file is gone.

Run in the job as ``python -m eai_notebook.cluster.slurm_jobs.job_lease FILE SECONDS PID``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

LOOK_S = 1.0


def keep(file: Path, seconds: float, pid: int) -> bool:
    """Wait for process `pid`; end it when `file` has not changed for `seconds`. Return whether so."""
    last, since = "", time.monotonic()
    while _runs(pid):
        text = _text(file)
        if text and text != last:
            last, since = text, time.monotonic()
        if time.monotonic() - since > seconds:
            sys.stdout.write("eai: the notebook's machine is gone, or its group was ended there\n")
            sys.stdout.flush()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            return True
        time.sleep(min(LOOK_S, seconds / 4))
    return False


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return os.getppid() != 1  # the script, which is the parent of both, has not ended


if __name__ == "__main__":
    keep(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
