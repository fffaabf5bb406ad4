"""Test Horovod on two ranks, and cache the result."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import mpi_finder, verify
from eai_notebook.horovod_build.cache_key import key_for
from eai_notebook.horovod_build.verify import Proof

OURS = mpi_finder.Mpi(Path(sys.prefix).resolve(), "Open MPI", "5.0.11")
PROOF = Proof(2, "Horovod", "0.28.1", "2.21.0", "3.15.1", "Open MPI v5.0.11", ("MPI",), 0)


def mpirun_that(folder: Path, script: str) -> mpi_finder.Mpi:
    (folder / "bin").mkdir(parents=True)
    mpirun = folder / "bin" / "mpirun"
    mpirun.write_text(f"#!/bin/sh\n{script}\n")
    mpirun.chmod(0o755)
    return mpi_finder.Mpi(folder, "MPI", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.ranks
def test_two_real_ranks_sum() -> None:
    proof = verify.prove(mpi_finder.find())
    assert proof.size == 2
    assert "MPI" in proof.operations
    assert "2 ranks summed correctly" in proof.sentence()


def test_failed_ranks_give_their_error_in_one_line(tmp_path: Path) -> None:
    broken = mpirun_that(
        tmp_path / "mpi", "echo noise; echo 'ImportError: libmpi.so.40: gone'; exit 3"
    )
    with pytest.raises(EaiError, match=r"ended with 3.*libmpi\.so\.40: gone") as failed:
        verify.prove(broken)
    assert "\n" not in str(failed.value)
    assert "install-horovod --force" in failed.value.remedy


def test_ranks_that_do_not_see_each_other_are_no_proof(tmp_path: Path) -> None:
    alone = (
        'eai-probe:{"rank": 0, "size": 1, "backend": "x", "version": "0", "tensorflow": "0", "keras": "0", '
        '"mpi": "x", "operations": [], "gpus": 0}'
    )
    lonely = mpirun_that(tmp_path / "mpi", f"echo '{alone}'")
    with pytest.raises(EaiError, match=r"each saw 1.*--mpi PREFIX"):
        verify.prove(lonely)


def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "PROBE_SECONDS", 0.5)
    stuck = mpirun_that(tmp_path / "mpi", "echo waiting; sleep 60")
    with pytest.raises(EaiError, match=r"did not finish one allreduce in 0\.5 s.*waiting"):
        verify.prove(stuck)


def test_proof_is_remembered_for_this_key_and_these_files(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_for(OURS, gpu=False)
    assert verify.remembered(key) is None
    verify.remember(key, PROOF)
    assert verify.remembered(key) == PROOF
    assert verify.remembered(replace(key, tensorflow="tensorflow-9")) is None
    monkeypatch.setattr(verify, "_installed_files", lambda: "other files")
    assert verify.remembered(key) is None


def test_a_broken_note_is_no_proof() -> None:
    key = key_for(OURS, gpu=False)
    verify.remember(key, PROOF)
    verify._note().write_text('{"key": 3')
    assert verify.remembered(key) is None


def test_to_build_anew_is_advised_only_where_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_MCA_btl", "x")
    output = "EaiError: Keras runs on torch: set KERAS_BACKEND=tensorflow"
    assert "install-horovod" not in verify._remedy(output)
    assert "KERAS_BACKEND" in verify._remedy(output)
    assert "unset OMPI_MCA_btl" in verify._remedy(output)
    assert "install-horovod" in verify._remedy("ImportError: libmpi.so.40: gone")
