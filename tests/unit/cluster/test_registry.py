from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.cluster import registry
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import is_running, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
GONE = (1, 1.0)  # a pid that runs, but was never started then


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def running(process: subprocess.Popen[bytes], **changes: object) -> registry.Entry:
    entry = registry.register(2)
    entry.processes = started([process.pid])
    for name, value in changes.items():
        setattr(entry, name, value)
    entry.write()
    return entry


def test_an_entry_is_found_again_as_it_was(process: subprocess.Popen[bytes]) -> None:
    entry = running(process, setup=[("import os", None), ("x = 1", [0])])
    assert registry.find(entry.name) == entry
    assert registry.entries() == [entry]
    assert entry.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "in use"),
        ({"owner": GONE}, "left behind"),
        ({"owner": GONE, "kept": True}, "kept"),
        ({"processes": [GONE]}, "ended"),
        ({"processes": []}, "starting"),
        ({"processes": [], "owner": GONE}, "ended"),
        ({"host": "another"}, "elsewhere"),
    ],
)
def test_the_state_is_read_off_the_processes(
    process: subprocess.Popen[bytes], changes: dict[str, object], state: str
) -> None:
    entry = running(process, **changes)
    assert entry.state == state
    heading, line = registry.table([entry]).splitlines()
    assert line[heading.index("state") :].startswith(state)


def test_a_group_that_is_not_there_is_named() -> None:
    with pytest.raises(EaiError, match="there is no group g0"):
        registry.find("g0")
    assert registry.table([]) == "no groups are running"


def test_reclaim_ends_what_was_left_behind_and_nothing_else() -> None:
    with subprocess.Popen(SLEEP) as used, subprocess.Popen(SLEEP) as left:
        in_use, behind = running(used), running(left, owner=GONE)
        kept = running(used, owner=GONE, kept=True)
        gone = running(used, processes=[GONE])
        said = CliRunner().invoke(app, ["reclaim"])
        alive = [is_running(entry.processes[0]) for entry in (behind, kept)]
        used.kill()
        assert alive == [False, True]
        assert f"{behind.name}: 1 process ended" in said.output
        assert f"{gone.name}: 0 processes ended" in said.output
        assert registry.entries() == [in_use, kept]


def test_a_group_in_use_is_reclaimed_by_force_only(process: subprocess.Popen[bytes]) -> None:
    entry = running(process)
    refused = CliRunner().invoke(app, ["reclaim", entry.name])
    assert "uses group" in str(refused.exception)
    assert process.poll() is None
    CliRunner().invoke(app, ["reclaim", entry.name, "--force"])
    assert not is_running(entry.processes[0])
    assert not entry.folder.exists()


def test_a_group_of_another_host_is_never_touched(process: subprocess.Popen[bytes]) -> None:
    entry = running(process, host="another", owner=GONE)
    assert "another" in CliRunner().invoke(app, ["list"]).output
    assert "nothing was left behind" in CliRunner().invoke(app, ["reclaim"]).output
    refused = CliRunner().invoke(app, ["reclaim", entry.name, "--force"])
    assert "reclaim it there" in str(refused.exception)
    assert is_running(entry.processes[0])
