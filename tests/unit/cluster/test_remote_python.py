"""Finding out what is behind a name of the user's ssh settings."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from eai_notebook.cluster import remote_python

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_a_name_that_gets_another_address_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config"
    monkeypatch.setenv("EAI_SSH", f"ssh -F {settings}")
    found = []
    for address in ("127.0.0.5", "127.0.0.6"):
        settings.write_text(f"Host gpu-1\n    HostName {address}\n")
        found.append(remote_python.address_of("gpu-1"))
    assert found == ["127.0.0.5", "127.0.0.6"]
    assert remote_python.address_of("no-such-host.invalid") is None


def test_files_put_on_a_host_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    folder = tmp_path / "rings"
    folder.mkdir()
    for age in range(5):
        old = folder / f"{age}.rules"
        old.touch()
        os.utime(old, (1e9 - age, 1e9 - age))
    (folder / "other.json").touch()
    put = remote_python.put_file("here", str(folder / "new.rules"), "0\n", here=True, most=3)
    assert put is None
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["0.rules", "1.rules", "new.rules", "other.json"]
    assert (folder / "new.rules").read_text() == "0\n"
