"""What is read off the output of a start that failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from eai_notebook.cluster import mpirun_output
from eai_notebook.cluster.mpirun_output import explain, left_over, start_remedy
from eai_notebook.cluster.process_launchers import _ReadsAnyOutput

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RULE = "-" * 74 + "\n"
CONSEQUENCE = f"{RULE}prterun detected that one or more processes exited\nExit code: 14\n{RULE}"


def test_the_cause_comes_before_its_consequences() -> None:
    cause = f"{RULE}A requested component was not found.\n\nComponent: nonesuch\n{RULE}"
    said = f"*** An error occurred\n{cause} {RULE}It looks like MPI_INIT failed for some reason\n"
    words = "A requested component was not found. Component: nonesuch"
    assert explain(said + CONSEQUENCE) == words


def test_a_consequence_is_better_than_nothing() -> None:
    assert "Exit code: 14" in explain(CONSEQUENCE)


def test_an_internal_error_is_named_with_the_message_that_follows_it() -> None:
    said = f"[vm:1] PMIX ERROR: FILE_WRITE_FAILURE in file x.c at line 2\n{RULE}No thread.\n{RULE}"
    assert explain(said) == "FILE_WRITE_FAILURE No thread."
    assert explain("[vm:1] PRTE ERROR: File open failure in file x.c at line 2\n") == (
        "File open failure"
    )


def test_the_error_of_a_rank_comes_first() -> None:
    assert explain(f"Traceback\n  x\nImportError: no y\n{CONSEQUENCE}") == "ImportError: no y"


def test_what_is_long_is_cut_and_nothing_is_nothing() -> None:
    assert len(explain("word " * 1000)) <= mpirun_output.MOST + 4
    assert explain("") == explain(RULE) == ""


def test_variables_that_change_mpi_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_MCA_btl", "x")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    assert "OMPI_MCA_btl" in left_over(os.environ)
    assert "OMPI_ALLOW_RUN_AS_ROOT" not in left_over(os.environ)
    assert "OMPI_MCA_btl" in start_remedy()


def test_a_full_folder_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpirun_output, "LEAST_ROOM", 1 << 62)
    assert "TMPDIR" in start_remedy()


def test_output_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("caf\xe9\n".encode("latin-1"))
    launcher = _ReadsAnyOutput(profile_dir=str(tmp_path), output_file=str(log))
    assert launcher.get_output(remove=True) == "caf\ufffd\n"
    assert not log.exists()
