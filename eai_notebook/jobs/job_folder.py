"""`Job`: a job's folder, which holds all that was sent and all that came of it.

```text
FOLDER/
  sent/         the notebook as it was sent, cells/ as text, modules/ of the user's, versions.txt, knobs.json
  job.json      what is to run, and where it runs
  job.sh        the script of a batch system
  output.log    all output, line by line
  NAME.ipynb    the notebook with its outputs, from the first cell on; NAME.html at the end
  result.json   how it ended
```
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import platformdirs

from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder, read_json, write_private

_FILE: Final = "job.json"
_RESULT: Final = "result.json"


@dataclass
class Result:
    """How a notebook ended: ``state`` is done, failed, interrupted or checkpoint; ``code`` its exit code."""

    state: str
    code: int
    error: str = ""
    ended: float = field(default_factory=time.time)


@dataclass
class Job:
    """One job; `write` puts it on disk.

    Attributes:
        name: What it is listed as.
        folder: Its folder.
        notebook: The name of the notebook's file.
        work: The notebook's working folder.
        size: How many ranks its groups have; None for what the notebook says.
        options: The launcher's options of its groups, in place of the notebook's; None to leave those.
        parameters: The notebook's parameters.
        launcher: The launcher whose batch system runs it; empty for this machine.
        identity: What it is called there, or the process here that runs it.
        host: The machine that it was started on.
        since: When, in seconds since 1970.
    """

    name: str
    folder: Path
    notebook: str
    work: Path
    size: int | None = None
    options: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    launcher: str = ""
    launcher_options: dict[str, Any] = field(default_factory=dict)
    identity: str = ""
    host: str = ""
    since: float = field(default_factory=time.time)

    @property
    def sent(self) -> Path:
        """Where all that is sent lies."""
        return self.folder / "sent"

    def write(self) -> None:
        """Put the job into its folder, and its folder into the list of jobs."""
        known = {**asdict(self), "folder": str(self.folder), "work": str(self.work)}
        write_private(self.folder / _FILE, json.dumps(known, indent=1))
        write_private(private_folder(_index()) / self.name, str(self.folder))

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Return the job in `folder`, wherever that is now.

        Raises:
            EaiError: There is none.
        """
        try:
            known = read_json(folder / _FILE)
            mine = {each.name: known[each.name] for each in fields(cls) if each.name in known}
            return cls(**{**mine, "folder": folder.resolve(), "work": Path(known["work"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EaiError(
                f"{folder} is no folder of a job",
                "`eai-notebook jobs` lists them",
                code="job-unknown",
            ) from error

    @property
    def result(self) -> Result | None:
        """How it ended; None if it has not."""
        try:
            return Result(**read_json(self.folder / _RESULT))
        except (OSError, ValueError, TypeError):
            return None

    def end(self, result: Result) -> None:
        """Note how it ended."""
        write_private(self.folder / _RESULT, json.dumps(asdict(result)))

    def begin(self) -> None:
        """Forget how it ended before it was queued again."""
        (self.folder / _RESULT).unlink(missing_ok=True)


def new_name() -> str:
    """Return a name for a job."""
    return f"j{token_hex(3)}"


def make_folder(out: Path | None, notebook: str) -> Path:
    """Make the folder of a new job: `out`, or one below ``.eai/jobs``.

    Raises:
        EaiError: There is something else in `out`.
    """
    if out is None:
        name = f"{Path(notebook).stem}-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"
        out = Path.cwd() / ".eai" / "jobs" / name
    folder = out.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EaiError(
            f"{folder} is not empty", "give a new folder with --out", code="job-folder-used"
        )
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def jobs() -> list[Job]:
    """Return all jobs of this user whose folders are still there, oldest first."""
    found = [_listed(entry) for entry in _index().glob("j*")] if _index().is_dir() else []
    return sorted(filter(None, found), key=lambda job: job.since)


def _listed(entry: Path) -> Job | None:
    """Return the job of an entry in the list; one whose folder is gone is forgotten."""
    try:
        return Job.read(Path(entry.read_text()))
    except (OSError, EaiError):
        with contextlib.suppress(OSError):
            if not Path(entry.read_text()).is_dir():
                entry.unlink()
        return None


def find_job(name: str) -> Job:
    """Return the job of that name, number or folder.

    Raises:
        EaiError: There is none.
    """
    for job in jobs():
        if name in (job.name, job.identity):
            return job
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 -- a name, until it is a folder
    if not folder.exists():
        raise EaiError(
            f"there is no job {name}", "`eai-notebook jobs` lists them", code="job-unknown"
        )
    return Job.read(folder)


def _index() -> Path:
    return platformdirs.user_state_path("eai-notebook") / "jobs"
