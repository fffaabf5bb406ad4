"""`eai-notebook install-horovod`: cached, installed, broken and foreign builds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eai_notebook.cli import install_horovod
from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import cache_key, verify
from eai_notebook.horovod_build.mpi_finder import Mpi
from eai_notebook.horovod_build.verify import Proof

OURS = Mpi(Path(sys.prefix).resolve(), "Open MPI", "5.0.11")
PROOF = Proof(2, "Horovod", "0.28.1", "2.21.0", "3.15.1", "Open MPI v5.0.11", ("MPI",), 0)


class Machine:
    """Stands in for the slow steps, and writes down which were taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.has_horovod = False
        self.proof: Proof | EaiError = PROOF
        monkeypatch.setattr("eai_notebook.horovod_build.mpi_finder.find", lambda _prefix: OURS)
        monkeypatch.setattr(install_horovod, "require_toolchain", lambda *_, **__: None)
        monkeypatch.setattr(install_horovod, "build_wheel", self.build)
        monkeypatch.setattr(install_horovod, "_install", self.install)
        monkeypatch.setattr(install_horovod, "prove", self.prove)
        monkeypatch.setattr(
            install_horovod, "installed", lambda _name: "0.28.1" if self.has_horovod else None
        )
        monkeypatch.setattr(install_horovod, "is_outdated", lambda: False)

    def build(self, key: cache_key.HorovodKey, *_: object, **__: object) -> Path:
        self.steps.append("build")
        key.folder.mkdir(parents=True, exist_ok=True)
        wheel = key.folder / "horovod-0.28.1.whl"
        wheel.touch()
        return key.keep(wheel)

    def install(self, wheel: Path) -> None:
        assert wheel.exists()
        self.steps.append("install")
        self.has_horovod = True

    def prove(self, _mpi: Mpi, *, backend: str) -> Proof:
        assert backend == "horovod"
        self.steps.append("prove")
        if isinstance(self.proof, EaiError):
            raise self.proof
        return self.proof

    def run(self, *, gpu: bool = False, force: bool = False) -> list[str]:
        self.steps = []
        install_horovod.install_horovod(gpu=gpu, prefix=None, force=force)
        return self.steps


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Machine(monkeypatch)


def test_first_time_builds_second_time_does_nothing(machine: Machine) -> None:
    assert machine.run() == ["build", "install", "prove"]
    assert machine.run() == []


def test_another_environment_takes_the_wheel_from_the_cache(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.run()
    machine.has_horovod = False
    monkeypatch.setattr(verify, "_installed_files", lambda: "another environment's")
    assert machine.run() == ["install", "prove"]


def test_force_builds_again(machine: Machine) -> None:
    machine.run()
    assert machine.run(force=True) == ["build", "install", "prove"]


def test_another_tensorflow_builds_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.run()
    machine.has_horovod = False
    monkeypatch.setattr(cache_key, "installed_tensorflow", lambda: ("tensorflow-cpu", "9.9.9"))
    assert machine.run() == ["build", "install", "prove"]


@pytest.mark.parametrize("mended", [True, False])
def test_a_horovod_from_elsewhere_is_tried_first(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mended: bool,
) -> None:
    monkeypatch.setattr(install_horovod, "has_patches", lambda: mended)
    machine.has_horovod = True
    assert machine.run() == ["prove"]
    assert ("--force" in capsys.readouterr().err) is not mended
    assert machine.run() == []


def test_a_horovod_of_an_older_version_of_this_package_is_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_horovod, "is_outdated", lambda: True)
    machine.has_horovod = True
    assert machine.run() == ["build", "install", "prove"]


def test_a_horovod_from_elsewhere_that_fails_is_replaced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_horovod = True
    machine.proof = EaiError("two ranks could not sum", "build again", code="horovod-test-failed")

    def install(wheel: Path) -> None:
        machine.install(wheel)
        machine.proof = PROOF

    monkeypatch.setattr(install_horovod, "_install", install)
    assert machine.run() == ["prove", "build", "install", "prove"]


def test_gpu_build_without_nccl_is_an_error(machine: Machine) -> None:
    with pytest.raises(EaiError, match=r"without NCCL.*HOROVOD_NCCL_HOME"):
        machine.run(gpu=True)
    with pytest.raises(EaiError, match="without NCCL"):
        machine.run(gpu=True)
    assert machine.steps == ["prove", "build", "install", "prove"]


def test_a_wheel_that_pip_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EaiError, match="could not be installed") as failed:
        install_horovod._install(tmp_path / "horovod-0-py3-none-any.whl")
    assert "\n" not in str(failed.value)
