"""In the kernel of a job: passes the request to stop at a checkpoint on to the ranks.

The request is a file in the job's folder. Its sender (a batch script on a signal, a pod that is
asked to end) needs no connection to the kernel, and no right but to write that file.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eai_notebook.telemetry.training_progress import JOB_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES_FOLDER: Final = "EAI_JOB_MODULES"
"""The variable that names the folder of the modules that were sent with the job."""
LOOK_S: Final = 0.5
PATIENCE_S: Final = 5.0
"""How long a rank may take to answer."""
_FILE: Final = "stop"


def watch(ask: Callable[[], bool]) -> threading.Event | None:
    """Call `ask` when this kernel's job is to stop, until that returns True; None if it is no job's.

    The event that is returned ends the watch.
    """
    folder = os.environ.get(JOB_FOLDER)
    if not folder:
        return None
    file, ended = Path(folder) / _FILE, threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            if file.exists() and ask():
                return

    threading.Thread(target=look, name="eai-job-stop", daemon=True).start()
    return ended
