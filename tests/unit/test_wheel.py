"""The wheel: everything a user needs is in it, and nothing else is needed to install it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from paths import REPOSITORY

import eai_notebook

ROOT = REPOSITORY
PANEL = "share/jupyter/labextensions/eai-notebook"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / "eai_notebook" / "labextension" / "package.json").is_file(),
        reason="the front end is not built: run `make front`",
    ),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("user") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(home)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (borrowed,) = home.glob("lib/python*/site-packages")
    (borrowed / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def run(home: Path, *arguments: str) -> str:
    """Run the new environment's Python where PATH has nothing else, so no node."""
    ours = ("JUPYTER", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {"PATH": str(home / "bin"), "PYTHONWARNINGS": "ignore", "HOME": str(home)}
    done = subprocess.run(
        [str(home / "bin" / "python"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=home,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_wheel_holds_the_front_end_the_notebook_horovods_headers_and_the_licence(
    wheel: Path,
) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    data = f"eai_notebook-{eai_notebook.__version__}.data/data/{PANEL}"
    assert "eai_notebook/notebooks/01_quickstart.ipynb" in names
    assert "eai_notebook/py.typed" in names
    assert "eai_notebook/horovod_build/headers/operations.h" in names
    assert f"{data}/package.json" in names
    assert f"{data}/install.json" in names
    assert any(name.startswith(f"{data}/static/remoteEntry") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    strangers = [name for name in names if name.split("/")[0] in {"tests", "benchmarks", "tools"}]
    assert strangers == []
    assert not [name for name in names if name.startswith("eai_notebook/labextension/")]


def test_command_line_answers(installed: Path) -> None:
    said = run(installed, "-m", "eai_notebook.cli", "--help")
    assert "install-horovod" in said


def test_jupyterlab_sees_the_panel(installed: Path) -> None:
    said = run(installed, "-m", "jupyterlab.labextensions", "list")
    (line,) = [line for line in said.splitlines() if "eai-notebook" in line]
    assert f"v{eai_notebook.__version__}" in line
    assert "enabled" in line
    assert "OK" in line


def test_demo_finds_its_notebook(installed: Path) -> None:
    program = "from eai_notebook.cli.demo import find_notebook\nprint(find_notebook())\n"
    notebook = run(installed, "-c", program).split()[-1]
    assert Path(notebook).is_relative_to(installed)
