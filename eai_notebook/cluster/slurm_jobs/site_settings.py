"""`SlurmSite`: the settings of a Slurm site and of its user, from files named ``slurm.toml``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import platformdirs

from eai_notebook.errors import EaiError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

FILE: Final = "slurm.toml"
_LISTS: Final = ("options", "drop", "lines")


@dataclass(frozen=True)
class SlurmSite:
    """Settings of jobs.

    Attributes:
        options: Options of ``sbatch`` to add, as in ``--account=vision``.
        drop: Options that are not used although they would be, such as ``--no-requeue``.
        lines: Shell lines that run before the ranks start, such as ``module load cuda``.
        folder: A folder that this machine and all nodes share; None for the user's cache.
        lease_s: After how many seconds a job ends whose notebook's machine is gone.
    """

    options: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    folder: Path | None = None
    lease_s: float = 120.0


def read_site(files: list[Path] | None = None) -> SlurmSite:
    """Return the settings: the site's first, the user's added to them or in their place.

    Raises:
        EaiError: A file cannot be read, or has a setting that there is not.
    """
    site = SlurmSite()
    for file in settings_files() if files is None else files:
        if file.is_file():
            site = _merged(site, file)
    return site


def settings_files() -> list[Path]:
    """Return where the settings are looked for: the machine's file, the user's, ``EAI_SLURM_TOML``."""
    named = os.environ.get("EAI_SLURM_TOML")
    usual = [
        Path("/etc/eai-notebook") / FILE,
        platformdirs.user_config_path("eai-notebook") / FILE,
    ]
    return [*usual, Path(named).expanduser()] if named else usual


def _merged(site: SlurmSite, file: Path) -> SlurmSite:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(file, str(error)) from error
    changes: dict[str, Any] = {}
    for name, value in found.items():
        if name in _LISTS:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise _wrong(file, f"{name} is no list of texts")
            changes[name] = (*getattr(site, name), *value)
        elif name == "folder" and isinstance(value, str):
            changes[name] = Path(os.path.expandvars(value)).expanduser()
        elif name == "lease_s" and isinstance(value, int | float) and value >= 1:
            changes[name] = float(value)
        else:
            raise _wrong(file, f"{name} = {value!r} is no setting")
    return replace(site, **changes)


def _wrong(file: Path, why: str) -> EaiError:
    known = ", ".join(SlurmSite.__dataclass_fields__)
    return EaiError(f"{file}: {why}", f"the settings are {known}", code="slurm-site-file")
