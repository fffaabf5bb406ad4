"""Launchers: the one that options select, and one from a package outside of the tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from extension import install
from waiting import PATIENCE_S

from eai_notebook.cluster.launcher_registry import launcher_names, launcher_options, make_launcher
from eai_notebook.errors import EaiError
from eai_notebook.session import Session

NOTEBOOK = Path(__file__).parents[2] / "ranks" / "nice_notebook.py"


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (3, {}, ("local", 3)),
        (None, {"hosts": "h1:2,h2:2"}, ("ssh", 4)),
        (None, {"hosts": ["h1:1"], "interface": "lo", "measure_again": False}, ("ssh", 1)),
        (2, {"hosts": None, "interface": None, "measure_again": False}, ("local", 2)),
    ],
)
def test_options_select_the_launcher(
    size: int | None, options: dict[str, Any], expected: tuple[str, int]
) -> None:
    made = make_launcher(size, options)
    assert (made.name, made.size) == expected


@pytest.mark.parametrize(
    ("size", "options", "name", "code"),
    [
        (0, {}, None, "group-size"),
        (3, {"hosts": "h1:2,h2:2"}, None, "group-size"),
        (2, {"interface": "lo"}, None, "launcher-options"),
        (2, {"hosts": "h1:2"}, "local", "launcher-options"),
        (2, {"color": "red"}, None, "launcher-options"),
        (2, {}, "punched-cards", "launcher-unknown"),
    ],
)
def test_what_cannot_be_met_is_refused_before_anything_starts(
    size: int, options: dict[str, Any], name: str | None, code: str
) -> None:
    with pytest.raises(EaiError) as raised:
        Session(size, launcher=name, **options)
    assert raised.value.code == code


def test_an_option_of_another_launcher_is_named_with_it() -> None:
    with pytest.raises(EaiError, match=r"--interface .*--hosts"):
        make_launcher(2, {"interface": "lo"})


def test_the_own_launchers_come_first_with_their_options() -> None:
    assert launcher_names()[:2] == ("local", "ssh")
    assert {"hosts", "interface", "measure_again"} <= launcher_options().keys()


@pytest.mark.ranks
@pytest.mark.slow
def test_a_launcher_from_another_package_runs_a_group(tmp_path: Path) -> None:
    installed = install("nice_launcher", tmp_path / "installed")
    paths = [str(installed), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(NOTEBOOK)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            "EAI_RUNS": str(tmp_path / "runs"),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "levels ['7', '7'] sum 3.0" in done.stdout
    assert "priority 7" in done.stdout  # what `%eai status` shows of it
    assert "processes left: 0" in done.stdout
