"""`tools/clusters_short.py` on machines that cannot have clusters: a line for each, and no failure."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
from paths import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

TOOL = REPOSITORY / "tools" / "clusters_short.py"


def lines_of(*words: str, **environment: str) -> list[str]:
    """Return what the tool prints, which is no failure, where nobody has asked for packages."""
    done = subprocess.run(
        [sys.executable, str(TOOL), *words],
        env={**os.environ, "EAI_APT": "", "CI": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_without_time_both_are_skipped() -> None:
    assert lines_of("--seconds", "-5") == [
        "skipped: tests with Slurm (0 s are too few for them)",
        "skipped: tests with Kubernetes (0 s are too few for them)",
    ]


def test_without_their_programs_each_is_skipped_with_a_line(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "id", "sed"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    slurm, kubernetes = lines_of(PATH=str(tmp_path))
    assert slurm.startswith("skipped: tests with Slurm (")
    assert "sbatch" in slurm or "sshd" in slurm or "root" in slurm
    assert kubernetes.startswith("skipped: tests with Kubernetes (")
    assert kubernetes.count("tests with") == 1


def test_what_does_not_end_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("clusters_short", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    script = f"sleep 600 & echo $! >{tmp_path / 'pid'}; sleep 600"
    assert tool.ended(["bash", "-c", script], 1.0) is None
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
