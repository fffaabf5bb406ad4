"""`eai-notebook check`: findings and their remedies."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import eai_notebook
from eai_notebook.cli import app, machine_checks
from eai_notebook.cli.machine_checks import Finding
from eai_notebook.errors import EaiError
from eai_notebook.horovod_build.verify import Proof

RUN = CliRunner()


def test_this_environment_works() -> None:
    found = {finding.name: finding for finding in machine_checks.findings(prove_horovod=False)}
    assert {name for name, finding in found.items() if finding.state == "fail"} == set()
    assert len(found) == len(machine_checks.CHECKS) + 1


@pytest.mark.ranks
def test_check_proves_horovod_and_leaves_with_0() -> None:
    result = RUN.invoke(app, ["check"])
    assert result.exit_code == 0, result.output
    assert "2 ranks summed correctly" in result.output


def test_a_failure_leaves_with_1_and_shows_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("Horovod", "fail", "not installed", "`eai-notebook install-horovod`")
    monkeypatch.setattr("eai_notebook.cli.check.findings", lambda **_: iter([broken]))
    result = RUN.invoke(app, ["check"])
    assert result.exit_code == 1
    assert "-> `eai-notebook install-horovod`" in result.output


def test_a_note_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Finding("memory", "note", "1 GiB", "close other programs")
    monkeypatch.setattr("eai_notebook.cli.check.findings", lambda **_: iter([note]))
    assert RUN.invoke(app, ["check"]).exit_code == 0


def test_json_is_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("Python", "ok", "3 [x]"), Finding("MPI", "fail", "none", "get one")]
    monkeypatch.setattr("eai_notebook.cli.check.findings", lambda **_: iter(findings))
    result = RUN.invoke(app, ["check", "--json"])
    checked = json.loads(result.output)
    assert result.exit_code == 1
    assert checked["works"] is False
    assert checked["version"] == eai_notebook.__version__
    assert checked["checks"][1] == {
        "name": "MPI",
        "state": "fail",
        "found": "none",
        "remedy": "get one",
    }


@pytest.mark.parametrize(
    ("version", "state"), [(None, "fail"), ("2.15.0", "fail"), ("3.0.0", "ok")]
)
def test_package_versions(monkeypatch: pytest.MonkeyPatch, version: str | None, state: str) -> None:
    monkeypatch.setattr(machine_checks, "installed", lambda _name: version)
    finding = machine_checks._package("Keras", "keras", at_least=3)()
    assert finding.state == state
    assert bool(finding.remedy) is (state == "fail")


@pytest.mark.parametrize("quick", [True, False])
def test_without_horovod_a_note_names_what_is_used_and_the_command(
    monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    proof = Proof(2, "mpi4py", "4.1.2", "2.21.0", "3.15.1", "Open MPI v5.0.11", ("MPI",), 0)
    monkeypatch.setattr(machine_checks, "installed", lambda _name: None)
    monkeypatch.setattr(machine_checks, "prove", lambda _mpi: proof)
    finding = machine_checks._horovod_version() if quick else machine_checks._proof()
    assert finding.state == "note"
    assert "mpi4py" in finding.found
    assert "eai-notebook install-horovod" in finding.remedy


def test_a_horovod_that_does_not_sum_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_mpi: object) -> None:
        raise EaiError("two ranks could not sum", "build again", code="horovod-test-failed")

    monkeypatch.setattr(machine_checks, "prove", fails)
    assert machine_checks._proof() == Finding(
        "exchange", "fail", "two ranks could not sum", "build again"
    )


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path("/proc"))
    finding = machine_checks._writable()
    assert finding.state == "fail"
    assert "/proc" in finding.found


def test_ports_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "create_server", refuse)
    finding = machine_checks._ports()
    assert finding.state == "fail"
    assert "Too many open files" in finding.found


@pytest.mark.parametrize(
    ("version", "state"),
    [(None, "note"), ("0.0.1", "note"), (eai_notebook.__version__, "ok")],
)
def test_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, state: str
) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    if version is not None:
        (tmp_path / "eai-notebook").mkdir()
        (tmp_path / "eai-notebook" / "package.json").write_text(json.dumps({"version": version}))
    assert machine_checks._extension().state == state


@pytest.mark.parametrize(("quota", "state"), [("max 100000", "ok"), ("50000 100000", "note")])
def test_container_with_half_a_core(
    monkeypatch: pytest.MonkeyPatch, quota: str, state: str
) -> None:
    monkeypatch.setattr(machine_checks, "_cgroup", lambda _name: quota)
    finding = machine_checks._cores()
    assert finding.state == state


def test_gpu_driver_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    finding = machine_checks._gpus()
    assert finding.state == "note"
    assert "version mismatch" in finding.found
