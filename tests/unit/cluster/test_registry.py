from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.cluster import registry
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import FIRST_PIDS, is_running, machine, started

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
    assert "no group is left over" in CliRunner().invoke(app, ["reclaim"]).output
    refused = CliRunner().invoke(app, ["reclaim", entry.name, "--force"])
    assert "reclaim it there" in str(refused.exception)
    assert is_running(entry.processes[0])


def test_a_groups_folder_is_the_one_its_text_lies_in(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "data").touch()
    entry = registry.register(2)
    entry.processes, entry.owner = [GONE], None
    entry.write()
    text = json.loads((entry.folder / "group.json").read_text())
    (entry.folder / "group.json").write_text(json.dumps({**text, "name": str(precious)}))
    assert [each.name for each in registry.entries()] == [entry.name]
    CliRunner().invoke(app, ["reclaim"])
    assert (precious / "data").exists()
    assert not entry.folder.exists()


@pytest.mark.parametrize("name", ["..", "g0001.old", "thesis", "g"])
def test_a_folder_that_is_not_named_as_a_group_is_none(name: str) -> None:
    folder = registry.register(2).folder
    other = folder.parent / name
    other.mkdir(exist_ok=True)
    (other / "group.json").write_bytes((folder / "group.json").read_bytes())
    assert [entry.folder for entry in registry.entries()] == [folder]


def test_what_lies_elsewhere_is_not_followed_to(tmp_path: Path) -> None:
    entry = registry.register(2)
    moved = tmp_path / "moved"
    entry.folder.rename(moved)
    entry.folder.symlink_to(moved)
    assert registry.entries() == []
    entry.folder.unlink()
    entry.folder.mkdir()
    (entry.folder / "group.json").symlink_to(moved / "group.json")
    assert registry.entries() == []
    (entry.folder / "group.json").unlink()
    os.mkfifo(entry.folder / "group.json")  # which would be waited at
    assert registry.entries() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_entry_is_passed_over(process: subprocess.Popen[bytes]) -> None:
    entry = running(process, owner=GONE)
    os.chown(entry.folder / "group.json", 65534, 65534)
    assert registry.entries() == []
    os.chown(entry.folder / "group.json", 0, 0)
    os.chown(entry.folder, 65534, 65534)
    assert registry.entries() == []
    assert is_running(entry.processes[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_processes_of_another_user_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"], user=65534) as theirs:
        entry = registry.register(2)
        entry.processes, entry.owner = started([theirs.pid]), None
        entry.write()
        CliRunner().invoke(app, ["reclaim", entry.name])
        assert theirs.poll() is None
        theirs.kill()


@pytest.mark.parametrize("field", ["boot", "pids"])
def test_a_container_with_the_hosts_name_forgets_no_live_group(
    process: subprocess.Popen[bytes], field: str
) -> None:
    entry = running(process, owner=GONE, **{field: "another", "machine": ""})
    assert entry.state == "elsewhere"
    assert "no group is left over" in CliRunner().invoke(app, ["reclaim"]).output
    assert isinstance(CliRunner().invoke(app, ["reclaim", entry.name]).exception, EaiError)
    assert entry.folder.exists()
    assert is_running(entry.processes[0])


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root can make a pid namespace",
)
def test_in_a_real_pid_namespace_a_group_of_the_machine_is_left_alone(
    process: subprocess.Popen[bytes],
) -> None:
    entry = running(process, owner=GONE)
    program = "from eai_notebook.cli import app; app(['reclaim'])"
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    said = subprocess.run(inside, capture_output=True, text=True, check=False)
    assert "no group is left over" in said.stdout, said.stderr
    assert registry.entries() == [entry]
    assert is_running(entry.processes[0])
    assert entry.state == "left behind"  # seen from where it was started


def test_after_a_restart_of_the_machine_its_groups_are_ended_and_their_pids_nobodys(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {**machine(), "machine": "this", "pids": FIRST_PIDS}
    monkeypatch.setattr(registry, "machine", lambda: now)
    entry = running(process, owner=GONE, boot="an earlier one")
    assert entry.state == "ended"
    CliRunner().invoke(app, ["reclaim"])
    assert not entry.folder.exists()
    assert is_running(entry.processes[0])  # the pid has come round again


def test_the_folder_of_groups_is_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        entry = registry.register(2)
    finally:
        os.umask(before)
    for path in (entry.folder, entry.folder.parent):
        assert path.stat().st_mode & 0o077 == 0
    assert (entry.folder / "group.json").stat().st_mode & 0o077 == 0
    assert entry.folder.parent.parent == folder
