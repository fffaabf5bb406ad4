"""Packs what a job needs: the notebook, its cells as text, local modules, versions and measured knobs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from eai_notebook.errors import EaiError
from eai_notebook.files import write_private
from eai_notebook.jobs.cell_code import imported_modules
from eai_notebook.jobs.cell_selection import NUMBER
from eai_notebook.jobs.headless import write_notebook
from eai_notebook.ledger.run_record import RunRecord, list_runs, runs_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbformat import NotebookNode

    from eai_notebook.jobs.job_folder import Job

MODULES: Final = "modules"
KNOBS: Final = "knobs.json"
MOST_MODULES: Final = 64 << 20
"""Bytes of local modules; more is data, or an environment."""
_LEFT_OUT: Final = ("__pycache__", ".git", ".eai", ".ipynb_checkpoints", "*.ipynb", "*.pyc")
_SETTINGS: Final = re.compile(
    r"EAI_(WIRE|COLLECTIVE|TUNE_FUSION)|HOROVOD_(FUSION_THRESHOLD|CYCLE_TIME|CACHE_CAPACITY)"
    r"|OMPI_MCA_coll_\w+"
)
_OF_RUN: Final = ("wire", "sparse", "fused_bytes", "sizing")
_MEASURED: Final = ("fusion", "rings")
"""Folders of the user's cache with what was measured for a model, or for a group of hosts."""


def pack(job: Job, notebook: NotebookNode) -> None:
    """Put all that is sent of `job` into its folder.

    Raises:
        EaiError: A local module cannot be sent.
    """
    cells = job.sent / "cells"
    cells.mkdir(parents=True)
    write_notebook(notebook, job.sent / job.notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        taken = cell.metadata.get(NUMBER)  # of the notebook that it was taken from
        name = f"{number:02}" if taken is None else f"{number:02}-cell-{taken}"
        (cells / f"{name}.py").write_text(cell.source.rstrip("\n") + "\n", encoding="utf-8")
    copy_modules([cell.source for cell in code], job.work, job.sent / MODULES)
    (job.sent / "versions.txt").write_text("\n".join(versions()) + "\n")
    write_private(job.sent / KNOBS, json.dumps(knobs(), indent=1))
    _copy_measured(job.sent)


def copy_modules(sources: Iterable[str], work: Path, target: Path) -> list[str]:
    """Copy the local modules that `sources` import, and those that these import; return their names.

    Local is what is in no environment: in `work`, or wherever else Python looks for modules.
    """
    target.mkdir(parents=True, exist_ok=True)
    todo, copied = sorted(set().union(set(), *map(imported_modules, sources))), []
    while todo:
        name = todo.pop()
        if name in copied or (found := _local(name, work)) is None:
            continue
        copied.append(name)
        if found.is_dir():
            _check_size(name, found)
            shutil.copytree(found, target / name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        else:
            shutil.copy2(found, target / found.name)
        files = found.rglob("*.py") if found.is_dir() else [found]
        for file in files:
            if file.suffix == ".py":
                todo += imported_modules(file.read_text(encoding="utf-8", errors="replace"))
    return sorted(copied)


def _local(name: str, work: Path) -> Path | None:
    """Return the file or folder of a module that is in no environment; None for any other."""
    if name in sys.stdlib_module_names or name == "eai_notebook":
        return None
    for folder in [work, *map(Path, filter(None, sys.path))]:
        if _is_environment(folder):
            continue
        for found in (folder / name, folder / f"{name}.py"):
            if found.is_file() or (found.is_dir() and any(found.glob("*.py"))):
                return found
    return None


def _is_environment(folder: Path) -> bool:
    places = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    return any(folder == Path(each) or Path(each) in folder.parents for each in places)


def _check_size(name: str, folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > MOST_MODULES:
        raise EaiError(
            f"the module {name} in {folder} has {size / 1e6:.0f} MB",
            "keep data outside of it, or install it in the environment",
            code="module-too-large",
        )


def versions() -> list[str]:
    """Return Python and the packages of this environment, as ``NAME==VERSION``."""
    found = {
        f"{each.metadata['Name']}=={each.version}" for each in importlib.metadata.distributions()
    }
    return [f"# Python {sys.version.split()[0]}", *sorted(found, key=str.lower)]


def knobs() -> dict[str, Any]:
    """Return the settings of this process that hold in the job as well, and those of the latest run."""
    of_run: dict[str, Any] = {}
    if found := list_runs(runs_folder()):
        with contextlib.suppress(EaiError):
            meta = RunRecord(found[0]).info.meta
            of_run = {name: meta[name] for name in _OF_RUN if name in meta}
    settings = {name: value for name, value in os.environ.items() if _SETTINGS.fullmatch(name)}
    return {"settings": settings, "latest_run": of_run}


def restore_knobs(sent: Path) -> dict[str, str]:
    """Put what was measured before the job was sent into this user's cache; return its settings.

    A later measurement that is there already stays.
    """
    cache = platformdirs.user_cache_path("eai-notebook")
    for name in _MEASURED:
        for file in (sent / name).glob("*.json"):
            target = cache / name / file.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
    try:
        settings: dict[str, str] = json.loads((sent / KNOBS).read_text())["settings"]
    except (OSError, ValueError, KeyError):
        return {}
    return settings


def _copy_measured(sent: Path) -> None:
    cache = platformdirs.user_cache_path("eai-notebook")
    for name in _MEASURED:
        for file in (cache / name).glob("*.json"):
            (sent / name).mkdir(exist_ok=True)
            shutil.copy2(file, sent / name / file.name)
