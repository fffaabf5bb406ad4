"""Runs a job's notebook: in a batch system's job, in the background, or in the command itself.

Run as ``python -m eai_notebook.jobs.notebook_worker FOLDER``. Its exit code is 0 when all cells ran, 1
after an error, 130 after a signal, and `AGAIN` when the training was stopped at a checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eai_notebook.cluster.batch_system import AGAIN, RESTARTS, STOP_FILE
from eai_notebook.errors import EaiError, TrainingStopped
from eai_notebook.jobs import headless
from eai_notebook.jobs.job_folder import Job, Result
from eai_notebook.jobs.packing import MODULES, restore_knobs
from eai_notebook.jobs.requeue_guard import RequeueGuard
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.session.group_override import GroupOverride
from eai_notebook.session.job_stop import MODULES_FOLDER
from eai_notebook.telemetry.training_progress import JOB_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbformat import NotebookNode

INTERRUPTED: Final = 130
_LINE: Final = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 2


def run(job: Job, write: Callable[[str], None]) -> Result:
    """Execute the job's notebook; `write` gets its output as it comes.

    The notebook with its outputs is in the folder after each cell, and at the end in any case.
    """
    job.begin()
    (job.folder / STOP_FILE).unlink(missing_ok=True)
    notebook = headless.read_notebook(job.sent / job.notebook)
    guard = RequeueGuard(job.folder)
    progress = _Progress(job, notebook, write)
    try:
        guard.begin()
        if guard.restarts:
            progress.say(f"started again ({guard.restarts}), {time.strftime('%H:%M:%S')}")
        modules = job.sent / MODULES
        with _environment(job):
            headless.execute(
                notebook, job.work, progress.listener, cell_seconds=None, modules=modules
            )
        result = Result("done", 0)
    except KeyboardInterrupt:
        result = Result("interrupted", INTERRUPTED, "it was interrupted")
    except headless.CellFailedError as error:
        result = _again(guard, error) if _may_go_on(error) else Result("failed", 1, error.what)
    except EaiError as error:
        result = Result("failed", 1, str(error))
    finally:
        progress.save()
    with suppress(ImportError, OSError):  # nbconvert is not needed on a cluster's nodes
        headless.write_html(notebook, (job.folder / job.notebook).with_suffix(".html"))
    job.end(result)
    write(f"{_LINE} {result.state}{': ' if result.error else ''}{result.error}\n")
    return result


def _may_go_on(error: headless.CellFailedError) -> bool:
    """Return whether the notebook could go on from a checkpoint: it was asked to stop, or lost a machine."""
    lost = error.cell_code == "group-lost" and RESTARTS in os.environ
    return lost or error.ename == TrainingStopped.__name__


def _again(guard: RequeueGuard, error: headless.CellFailedError) -> Result:
    """Return the end of a notebook that is to be started again, unless that did not help before."""
    try:
        guard.stopped()
    except EaiError as useless:
        return Result("failed", 1, str(useless))
    return Result("checkpoint", AGAIN, error.what)


@contextmanager
def _environment(job: Job) -> Iterator[None]:
    """Set what the kernel inherits, and its ranks from the kernel, in the block only."""
    modules = job.sent / MODULES
    path = filter(None, [str(modules), os.environ.get("PYTHONPATH")])
    runs = runs_folder() if "EAI_RUNS" in os.environ else job.work / ".eai" / "runs"
    needed = {
        **restore_knobs(job.sent),
        **GroupOverride(job.size, job.options).variables(),
        JOB_FOLDER: str(job.folder),
        MODULES_FOLDER: str(modules),
        "EAI_RUNS": str(runs),
        "JPY_SESSION_NAME": str(job.work / job.notebook),
        "PYTHONPATH": os.pathsep.join(path),
    }
    before = {name: os.environ.pop(name, None) for name in needed}
    os.environ.update(needed)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


class _Progress:
    """Writes titles and output of the cells, and saves the notebook after each."""

    def __init__(self, job: Job, notebook: NotebookNode, write: Callable[[str], None]) -> None:
        self._file = job.folder / job.notebook
        self._notebook = notebook
        self._write = write
        self._is_at_start = True
        self.listener = headless.Listener(cell=self._cell, text=self._text, done=self._done)

    def save(self) -> None:
        """Put the notebook into the folder, whole or not at all."""
        new = self._file.with_suffix(".part")
        headless.write_notebook(self._notebook, new)
        new.replace(self._file)

    def say(self, words: str) -> None:
        """Write a line of the job's own."""
        self._line(f"{_LINE} {words}")

    def _cell(self, number: int, count: int, title: str) -> None:
        self.say(f"{number}/{count} {title}")

    def _text(self, text: str) -> None:
        if text:
            self._write(text)
            self._is_at_start = text.endswith("\n")

    def _done(self, seconds: float) -> None:
        if seconds >= 1:
            self._line(f"   {seconds:.1f} s")
        self.save()

    def _line(self, text: str) -> None:
        self._write(f"{'' if self._is_at_start else chr(10)}{text}\n")
        self._is_at_start = True


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _interrupt(*_: object) -> None:
    """Stop before the first cell as between two."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the job in the folder that the first argument names."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    job = Job.read(Path(sys.argv[1]))
    sys.exit(run(job, _print).code)


if __name__ == "__main__":
    main()
