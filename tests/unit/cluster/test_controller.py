"""The controller ends with any of its own processes, so that its group is started again."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from waiting import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

PORT_TAKEN = """
from eai_notebook.cluster import controller, heart_monitor

def start(self):
    raise OSError(98, "Address already in use")

heart_monitor.PromptHeartMonitor.start = start
controller.main()
"""


def test_it_ends_when_its_heart_monitor_could_not_listen(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PORT_TAKEN, "--profile-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1, done.stderr
    assert "has ended: shutting down" in done.stderr
