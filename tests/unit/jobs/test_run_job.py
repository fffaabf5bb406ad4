"""Notebooks as jobs on this machine: parameters, the folder, the group's options, Ctrl-C, background."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import waiting
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.cluster.batch_system import AGAIN, RESTARTS
from eai_notebook.errors import EaiError
from eai_notebook.jobs import notebook_worker, start_job
from eai_notebook.jobs.job_folder import Job, jobs
from eai_notebook.jobs.parameters import inject
from eai_notebook.jobs.requeue_guard import STOPS
from eai_notebook.python_command import module_command
from eai_notebook.session.group_override import VARIABLE, GroupOverride, group_override

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

v4 = nbformat.v4
PARAMETERS = {"tags": ["parameters"]}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder of its own; what a run sets in this process is taken back."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    for name in set(os.environ) - set(before):
        monkeypatch.delenv(name)
    os.environ.update(before)


def write(file: Path, *cells: Any) -> Path:
    nbformat.write(v4.new_notebook(cells=list(cells)), file)
    return file


def code(source: str, **metadata: Any) -> Any:
    return v4.new_code_cell(source, metadata=metadata)


def wait_until(condition: Any) -> None:
    assert waiting.wait_until(condition)


def test_a_parameter_is_assigned_where_its_default_is() -> None:
    book = v4.new_notebook(
        cells=[
            code("rate = 0.1", **PARAMETERS),
            code("%%distributed --setup\nsteps = 3", **PARAMETERS),
            code("print(rate)"),
        ]
    )
    inject(book, {"steps": 5, "rate": 0.5})
    inject(book, {"steps": 7})  # a notebook that was executed once, with other values
    assert [cell.source for cell in book.cells] == [
        "rate = 0.1",
        "%%distributed --setup\nsteps = 3",
        "%%distributed --setup\n# Parameters\nsteps = 7",
        "print(rate)",
    ]


def test_a_parameter_that_no_cell_has_is_refused() -> None:
    book = v4.new_notebook(cells=[code("rate = 0.1", **PARAMETERS), code("other = 2")])
    with pytest.raises(EaiError, match="rate") as raised:
        inject(book, {"other": 1})
    assert raised.value.code == "parameter-unknown"


def test_given_options_replace_those_of_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, GroupOverride(4, {"slurm": True}).variables()[VARIABLE])
    assert group_override().apply(2, {"hosts": "h1:2", "time": "1"}) == (4, {"slurm": True})
    monkeypatch.delenv(VARIABLE)
    assert group_override().apply(2, {"hosts": "h1:2"}) == (2, {"hosts": "h1:2"})


def test_a_notebook_runs_and_all_of_it_is_in_the_folder(place: Path) -> None:
    (place / "own.py").write_text("import deeper\n")
    (place / "deeper.py").write_text("x = 1\n")
    write(
        place / "small.ipynb",
        code("rate = 1", **PARAMETERS),
        code("import own\n(own.deeper.__file__, rate)"),
        code("print('two\\nlines')"),
    )
    before = dict(os.environ)
    done = CliRunner().invoke(app, ["run", "small.ipynb", "-p", "rate", "0.5", "--out", "out"])
    assert dict(os.environ) == before  # what the job's kernel inherits is its own
    assert done.exit_code == 0, done.output
    assert "two\nlines" in done.stdout
    sent = place / "out" / "sent"
    shown = nbformat.read(place / "out" / "small.ipynb", 4).cells[2].outputs[0].data["text/plain"]
    assert str(sent / "modules" / "deeper.py") in shown
    assert "0.5" in shown
    assert (sent / "cells" / "02.py").read_text() == "# Parameters\nrate = 0.5\n"
    assert "numpy==" in (sent / "versions.txt").read_text()
    assert not [file for file in sent.rglob("*") if file.suffix in (".pkl", ".pickle")]
    assert "two\nlines" in (place / "out" / "output.log").read_text()
    (job,) = jobs()
    assert (job.folder, start_job.state_words(job)) == (place / "out", "done")


def test_an_error_is_the_exit_code_and_the_notebook_is_there(place: Path) -> None:
    write(place / "bad.ipynb", code("print('before')"), code("1 / 0"), code("print('never')"))
    done = CliRunner().invoke(app, ["run", "bad.ipynb", "--out", "out"])
    assert isinstance(done.exception, EaiError)
    assert done.exception.code == "notebook-failed"
    assert "ZeroDivisionError" in str(done.exception)
    cells = nbformat.read(place / "out" / "bad.ipynb", 4).cells
    assert cells[1].outputs[0].ename == "ZeroDivisionError"
    assert json.loads((place / "out" / "result.json").read_text())["state"] == "failed"


def test_ctrl_c_interrupts_the_cell_and_keeps_the_notebook(place: Path) -> None:
    write(place / "long.ipynb", code("print('on', flush=True)\nimport time; time.sleep(600)"))
    command = module_command("eai_notebook.cli", "run", "long.ipynb", "--out", "out")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "on" not in process.stdout.readline().split():
            pass
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130
    (cell,) = nbformat.read(place / "out" / "long.ipynb", 4).cells
    assert [output.get("ename", "") for output in cell.outputs] == ["", "KeyboardInterrupt"]
    assert Job.read(place / "out").result.state == "interrupted"  # type: ignore[union-attr]


def test_a_job_in_the_background_is_listed_followed_and_cancelled(place: Path) -> None:
    write(place / "b.ipynb", code("print('on', flush=True)"), code("import time; time.sleep(600)"))
    done = CliRunner().invoke(app, ["run", "b.ipynb", "--out", "out", "--detach"])
    assert done.exit_code == 0, done.output
    (job,) = jobs()
    assert f"eai-notebook jobs {job.name} --follow" in done.stdout
    log = place / "out" / "output.log"
    wait_until(lambda: "on\n" in log.read_text())
    assert "running" in start_job.state_words(job)
    assert CliRunner().invoke(app, ["jobs", job.name, "--cancel"]).exit_code == 0
    followed = CliRunner().invoke(app, ["jobs", job.name, "--follow"])
    assert "on\n" in followed.stdout
    assert job.result is not None
    assert job.result.state == "interrupted"


def test_a_job_that_is_stopped_again_without_progress_is_not_started_again(place: Path) -> None:
    stop = "from eai_notebook.errors import TrainingStopped\nraise TrainingStopped('at step 0')"
    file = write(place / "stops.ipynb", code(stop))
    job = start_job.Start(start_job.read(file), file).make_job(None)
    results = [notebook_worker.run(job, print) for _ in range(STOPS)]
    assert {(result.state, result.code) for result in results[:-1]} == {("checkpoint", AGAIN)}
    assert (results[-1].state, results[-1].code) == ("failed", 1)
    assert "makes no progress" in results[-1].error


def test_a_job_that_lost_a_machine_is_started_again_where_the_batch_system_does_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "from eai_notebook.errors import EaiError\nraise EaiError('a', 'b', code='group-lost')"
    file = write(place / "lost.ipynb", code(lost))
    job = start_job.Start(start_job.read(file), file).make_job(None)
    assert notebook_worker.run(job, print).code == 1
    monkeypatch.setenv(RESTARTS, "1")
    assert notebook_worker.run(job, print).code == AGAIN


def test_show_submits_nothing(place: Path) -> None:
    write(place / "small.ipynb", code("%eai up -n 2"))
    done = CliRunner().invoke(app, ["run", "small.ipynb", "--show"])
    assert "notebook_worker" in done.stdout
    assert not (place / ".eai").exists()
    assert jobs() == []


def test_a_pod_template_may_be_left_out(place: Path) -> None:
    write(place / "small.ipynb", code("%eai up -n 2"))
    for words in (
        ["small.ipynb", "--kube"],
        ["--kube", "small.ipynb"],
        ["--kube", "--image", "a:1", "small.ipynb"],
    ):
        done = CliRunner().invoke(app, ["run", *words, "--show"])
        assert "kind: Job" in done.stdout, done.exception


@pytest.mark.parametrize(
    ("words", "asked"),
    [(["-n", "0", "--slurm"], "group-size"), (["-p", "rate"], "parameter-unknown")],
)
def test_what_cannot_be_meant_is_refused(place: Path, words: list[str], asked: str) -> None:
    write(place / "small.ipynb", code("%eai up -n 2"))
    done = CliRunner().invoke(app, ["run", "small.ipynb", *words])
    assert isinstance(done.exception, EaiError)
    assert done.exception.code == asked


def test_a_job_that_is_refused_leaves_no_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(place))  # no sbatch
    write(place / "small.ipynb", code("%eai up -n 2"))
    done = CliRunner().invoke(app, ["run", "small.ipynb", "--slurm", "--out", "out"])
    assert isinstance(done.exception, EaiError)
    assert done.exception.code == "slurm-missing"
    assert not (place / "out").exists()


def test_a_folder_in_use_is_refused(place: Path) -> None:
    write(place / "small.ipynb", code("1"))
    done = CliRunner().invoke(app, ["run", "small.ipynb", "--out", "."])
    assert isinstance(done.exception, EaiError)
    assert done.exception.code == "job-folder-used"


def test_hosts_say_how_many_ranks_there_are_if_nothing_else_does(place: Path) -> None:
    file = write(place / "small.ipynb", code("%eai up -n 1"))
    job = start_job.Start(start_job.read(file), file, options={"hosts": "a:2,b:1"}).make_job(None)
    assert job.size == 3


def test_the_largest_group_of_a_notebook_is_its_size() -> None:
    book = v4.new_notebook(cells=[code("%eai up -n 2"), code("x = 1\n%eai up --wire fp16 -n 4")])
    assert start_job.notebook_size(book) == 4
