"""The command line: its commands, its errors and exit codes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest
from typer.testing import CliRunner

import eai_notebook
from eai_notebook.cli import app, main
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = CliRunner()


def test_help_names_every_command() -> None:
    result = RUN.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("install-horovod", "check", "make-data", "demo"):
        assert command in result.output


@pytest.mark.parametrize("command", ["install-horovod", "check", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    result = RUN.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version() -> None:
    assert eai_notebook.__version__ in RUN.invoke(app, ["--version"]).output


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(**_: object) -> NoReturn:
        raise error

    return fail


def test_error_is_one_line_on_stderr_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = raising(EaiError("a [file] is gone", "bring it back", code="no-files"))
    monkeypatch.setattr("eai_notebook.cli.check.findings", broken)
    monkeypatch.setattr(sys, "argv", ["eai-notebook", "check"])
    with pytest.raises(SystemExit) as left:
        main()
    result = capsys.readouterr()
    assert left.value.code == 1
    assert result.err == "error [no-files]: a [file] is gone: bring it back\n"
    assert result.out == ""


def test_interrupt_leaves_with_the_shells_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eai_notebook.cli.check.findings", raising(KeyboardInterrupt()))
    monkeypatch.setattr(sys, "argv", ["eai-notebook", "check"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130


def test_help_loads_neither_tensorflow_nor_the_rank_side() -> None:
    program = (
        "import sys, eai_notebook.cli\n"
        "loaded = {'tensorflow', 'keras', 'horovod', 'mpi4py', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
