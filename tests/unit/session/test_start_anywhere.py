"""A group starts in any folder and any environment, or says what keeps it from starting."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from paths import RANKS

from eai_notebook import python_command
from eai_notebook.collective.backends import horovod_backend
from eai_notebook.collective.keras_check import check_keras
from eai_notebook.errors import EaiError
from eai_notebook.session import Session, Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PreloadedRanks

START = RANKS / "start_a_group.py"
NAMES = ("random", "queue", "json", "tensorflow", "types", "psutil", "keras", "runpy")


@pytest.fixture
def folder_of_clashes(tmp_path: Path) -> Path:
    """Return a folder with files named like modules, and one module of the user's own."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the file of the user')\n")
    (tmp_path / "my_module.py").write_text("ANSWER = 42\n")
    return tmp_path


@pytest.mark.parametrize("command", ["module", "code"])
def test_a_helper_process_does_not_import_from_the_working_folder(
    folder_of_clashes: Path, tmp_path_factory: pytest.TempPathFactory, command: str
) -> None:
    library = tmp_path_factory.mktemp("library")
    code = "import random, queue, json, psutil, own; print('well', own.__file__)"
    (library / "own.py").write_text(f"if __name__ == '__main__':\n    {code}\n")
    made = (
        python_command.module_command("own")
        if command == "module"
        else python_command.code_command(code)
    )
    done = subprocess.run(
        made,
        cwd=folder_of_clashes,
        env={**os.environ, "PYTHONPATH": str(library)},  # which goes on working
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("well"), done.stderr


def start(folder: Path, **environment: str | None) -> str:
    known = {**os.environ, **environment, "EAI_RUNS": str(folder / "runs")}
    done = subprocess.run(
        [sys.executable, str(START)],
        cwd=folder,
        env={name: value for name, value in known.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.ranks
@pytest.mark.slow
def test_a_group_starts_beside_files_named_like_modules(folder_of_clashes: Path) -> None:
    assert "42 from both" in start(folder_of_clashes)


SLURM: dict[str, Any] = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOBID": "1",
    "SLURM_NNODES": "2",
    "SLURM_NODELIST": "n[1-2]",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_TASKS_PER_NODE": "1(x2)",
}
PBS = {"PBS_JOBID": "1", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_NODEFILE": "/nonexistent"}
OTHERS = {
    "HOME": None,
    "HOROVOD_CONTROLLER": "gloo",
    "HOROVOD_CPU_OPERATIONS": "GLOO",
    "KERAS_BACKEND": "torch",
    "TF_USE_LEGACY_KERAS": "1",
}


@pytest.mark.ranks
@pytest.mark.slow
def test_a_group_starts_whatever_the_environment_around_it_says(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text("ANSWER = 42\n")
    said = start(tmp_path, **SLURM, **PBS, **OTHERS)
    assert "42 from both" in said
    assert "KERAS_BACKEND=torch" in said  # that it is not followed is said


@pytest.mark.ranks
@pytest.mark.slow
def test_the_words_of_mpirun_are_shown_when_a_start_fails(tmp_path: Path) -> None:
    said = start(tmp_path, OMPI_MCA_pml="nonesuch")
    assert "OMPI_MCA_pml" in said  # mpirun itself may lose the words of ranks that end at once
    assert "unset OMPI_MCA_pml" in said


@pytest.mark.ranks
@pytest.mark.slow
def test_output_of_a_program_that_is_no_utf_8_breaks_no_end(
    preloaded_ranks: PreloadedRanks,
) -> None:
    session = Session(2, watcher=Watcher())
    with preloaded_ranks():
        session.up()
    session.run("import os; _ = os.write(1, b'caf\\xe9\\n')")
    with pytest.raises(EaiError, match=r"rank 1 .* exit code 3"):
        session.run(
            "import eai_notebook as eai, time\nif eai.rank() == 1: os._exit(3)\ntime.sleep(900)"
        )
    assert session.state == "lost"
    with preloaded_ranks():
        session.restart()
    session.run("import os; _ = os.write(1, b'caf\\xe9\\n')")
    session.down()
    assert session.state == "down"


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (["keras", "horovod"], ImportError("no"), "TensorFlow is not installed"),
        (["tensorflow", "horovod"], ImportError("no"), "Keras is not installed"),
        (["tensorflow", "keras"], ImportError("no"), "Horovod is not installed"),
        (["tensorflow", "keras", "horovod"], ImportError("libmpi.so"), "libmpi.so"),
    ],
)
def test_an_import_that_fails_names_its_own_cause(
    monkeypatch: pytest.MonkeyPatch, found: list[str], error: Exception, words: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in found else None)
    monkeypatch.setattr(horovod_backend, "_fails", lambda _package: False)
    failure = horovod_backend.import_failure(error)
    assert words in failure.what
    assert ("not installed" in failure.what) == (len(found) == 2)


def test_another_backend_of_keras_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(EaiError, match=r"jax.*KERAS_BACKEND=tensorflow"):
        check_keras()
