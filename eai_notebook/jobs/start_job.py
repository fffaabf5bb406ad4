"""Start a notebook as a job, and follow a job that runs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import OUTPUT_FILE, BatchJob, BatchSystem
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.errors import EaiError
from eai_notebook.jobs import headless, notebook_worker, packing
from eai_notebook.jobs.job_folder import Job, Result, find_job, make_folder, new_name
from eai_notebook.jobs.local_process import LocalProcess, identity_of
from eai_notebook.jobs.parameters import inject
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbformat import NotebookNode

    from eai_notebook.cluster.launcher import Launcher

TICK_S: Final = 0.2
LOOK_S: Final = 2.0
GONE_S: Final = 30.0
"""How long a job's last words may take to come from its node over a shared folder."""


class Start:
    """A notebook with the options that were given, before it is started.

    Args:
        notebook: The notebook; it is changed.
        file: Its file, which names it and in whose folder its kernel works.
        size: How many ranks; None for what the notebook says.
        options: What was given of the launchers' options, by name.
        launcher: The launcher's name, if no option selects it.
        parameters: Values of the notebook's parameters.

    Raises:
        EaiError: The options or parameters cannot be met.
    """

    def __init__(
        self,
        notebook: NotebookNode,
        file: Path,
        *,
        size: int | None = None,
        options: Mapping[str, Any] | None = None,
        launcher: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise EaiError(
                f"{size} ranks are not possible", "ask for 1 or more: `-n 2`", code="group-size"
            )
        self.notebook = notebook
        self._file = file.resolve()
        self._size = size
        self._launcher_name = launcher
        self._options = {
            name: value for name, value in (options or {}).items() if value not in (None, False)
        }
        self._parameters = dict(parameters or {})
        inject(notebook, self._parameters)
        self._is_placed = bool(self._options) or launcher is not None
        self._launcher = self._make_launcher()
        self._batch = None if self._launcher is None else self._launcher.batch_system()

    @property
    def is_batch(self) -> bool:
        """Whether a batch system runs it."""
        return self._batch is not None

    def describe(self, out: Path | None) -> str:
        """Return what would be submitted; nothing is made or started."""
        folder = (out or Path.cwd() / ".eai" / "jobs" / "FOLDER").expanduser().absolute()
        return (self._batch or LocalProcess()).describe(self._batch_job(folder, "eai"))

    def make_job(self, out: Path | None) -> Job:
        """Make the job's folder with all that is sent."""
        folder = make_folder(out, self._file.name)
        job = Job(
            new_name(),
            folder,
            self._file.name,
            self._file.parent,
            size=self._size,
            options=self._group_options(folder),
            parameters=self._parameters,
            host=socket.gethostname(),
        )
        packing.pack(job, self.notebook)
        if self._launcher is not None and self._batch is not None:
            job.launcher = self._launcher.name
            job.launcher_options = dict(self._launcher.given)
            job.size = self._size
        return job

    def submit(self, job: Job) -> str:
        """Start the job without waiting for it; return its title. One that is refused leaves no folder."""
        batch = self._batch or LocalProcess()
        try:
            job.identity = batch.submit(self._batch_job(job.folder, f"eai-{self._file.stem}"))
        except EaiError:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        job.write()
        return batch.title(job.identity)

    def run_here(self, job: Job, write: Callable[[str], None]) -> Result:
        """Run the notebook in this process, to its end."""
        job.identity = identity_of(os.getpid())
        job.write()
        with (job.folder / OUTPUT_FILE).open("a", encoding="utf-8") as log:

            def both(text: str) -> None:
                log.write(text)
                log.flush()
                write(text)

            return notebook_worker.run(job, both)

    def _make_launcher(self) -> Launcher | None:
        """Return the launcher that was asked for; None where the notebook's own holds."""
        if not self._is_placed:
            return None
        if self._size is None:
            self._size = self._size_of_options()
        size = self._size or notebook_size(self.notebook)
        return make_launcher(size, self._options, self._launcher_name)

    def _size_of_options(self) -> int | None:
        """Return how many ranks the options themselves name, as hosts with slots do; None if they name none."""
        try:
            launcher = make_launcher(None, self._options, self._launcher_name)
        except EaiError as error:
            if error.code == "group-size":
                return None
            raise
        return launcher.size if launcher.is_away else None

    def _group_options(self, folder: Path) -> dict[str, Any] | None:
        if self._batch is not None:
            return self._batch.group_options(folder)
        if not self._is_placed:
            return None
        return {**self._options, "launcher": self._launcher_name}

    def _batch_job(self, folder: Path, name: str) -> BatchJob:
        command = module_command("eai_notebook.jobs.notebook_worker", str(folder))
        safe = re.sub(r"[^\w.-]", "-", name)
        return BatchJob(safe, folder, self._file.parent, command)


def notebook_size(notebook: NotebookNode) -> int | None:
    r"""Return the largest number of ranks that the notebook starts; None if it names none.

    Examples:
        >>> from nbformat import v4
        >>> cells = [v4.new_code_cell("%load_ext eai_notebook\n%eai up -n 3 --wire int8")]
        >>> notebook_size(v4.new_notebook(cells=cells))
        3
    """
    found = [
        int(size)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for size in re.findall(r"^\s*%eai up\b.*?-n[ =]?(\d+)", cell.source, re.MULTILINE)
    ]
    return max(found, default=None)


def read(file: Path) -> NotebookNode:
    """Return the notebook in a file.

    Raises:
        EaiError: There is none.
    """
    try:
        return headless.read_notebook(file)
    except FileNotFoundError as error:
        raise EaiError(
            f"there is no file {file}", "name a notebook", code="notebook-missing"
        ) from error
    except ValueError as error:  # what nbformat raises is derived from it
        raise EaiError(
            f"{file} is no notebook ({str(error).partition(chr(10))[0][:120]})",
            "name a file that Jupyter has saved",
            code="notebook-missing",
        ) from error


def batch_of(job: Job) -> BatchSystem:
    """Return what runs a job that was started."""
    if not job.launcher:
        return LocalProcess()
    launcher = make_launcher(job.size or 1, job.launcher_options, job.launcher)
    found = launcher.batch_system()
    if found is None:
        raise EaiError(
            f"{job.launcher} cannot be asked for the job from here",
            "ask on the machine that it was submitted from",
            code="job-unknown",
        )
    return found


def state_words(job: Job) -> str:
    """Return how a job is, in a few words."""
    result = job.result
    if result is not None and result.state != "checkpoint":
        return result.state
    try:
        state = batch_of(job).look(job.identity)
    except EaiError as error:
        return f"unknown ({error.what})"
    if state is None:
        return f"unknown (started on {job.host})"
    if state.is_over:
        return state.end or ("stopped at a checkpoint" if result else "ended without a result")
    return state.words


def follow(job: Job, write: Callable[[str], None], progress: Callable[[str], None]) -> Result:
    """Write the job's output as it comes, until it ends; return how it ended.

    ``progress`` gets its state in words whenever that changes. A job that will not start is cancelled: what it
    holds, such as a node's cores, is of no use to anyone.
    """
    batch, output = batch_of(job), _Output(job.folder / OUTPUT_FILE, write)
    words, looked, since_over = "", 0.0, 0.0
    while True:
        output.show()
        if time.monotonic() - looked >= (TICK_S if since_over else LOOK_S) or not looked:
            looked = time.monotonic()
            state = batch.look(job.identity)
            if state is None:
                continue
            if state.words != words and state.is_queued:
                progress(f"{batch.title(job.identity)}: {state.words}")
            words = state.words
            if state.obstacle:
                batch.cancel(job.identity)
                end = f"was cancelled, since it cannot start: {state.obstacle}"
                return _ended(job, None, end, batch.title(job.identity))
            result = job.result
            if state.is_over:
                since_over = since_over or time.monotonic()
                if result is not None or state.end or time.monotonic() - since_over > GONE_S:
                    output.show()
                    return _ended(job, result, state.end, batch.title(job.identity))
        time.sleep(TICK_S)


def _ended(job: Job, result: Result | None, end: str, title: str) -> Result:
    if result is None or (end and result.state != "done"):
        error = f"{title} {end or 'ended without a result'}"
        result = Result("failed", 1, error)
        if job.result is None:
            job.end(result)
    return result


def cancel(name: str) -> Job:
    """End a job; return it."""
    job = find_job(name)
    batch_of(job).cancel(job.identity)
    return job


class _Output:
    """Shows what is added to a file."""

    def __init__(self, file: Path, write: Callable[[str], None]) -> None:
        self._file = file
        self._write = write
        self._read = 0

    def show(self) -> None:
        """Write what is new."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        # A character may come in two pieces.
        whole = data[: data.rfind(b"\n") + 1] or (data if len(data) > 1 << 16 else b"")
        self._read += len(whole)
        if whole:
            self._write(whole.decode(errors="replace"))


def table(found: list[Job]) -> str:
    """Return jobs as lines of text in columns."""
    if not found:
        return "no jobs"
    rows = [("job", "where", "notebook", "age", "state", "folder")]
    for job in found:
        where = f"{job.launcher} {job.identity}" if job.launcher else job.host
        age = f"{(time.time() - job.since) / 60:.0f} min"
        rows.append((job.name, where, job.notebook, age, state_words(job), _short(job.folder)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _short(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
