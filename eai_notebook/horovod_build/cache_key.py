"""The cache of built Horovod wheels and the key that each is valid for.

A Horovod wheel holds compiled code for one TensorFlow, one Python and one MPI. pip's own
wheel cache uses only Horovod's version, so it could return a wheel for an older TensorFlow; here
the name of a wheel's folder contains all of these versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import re
import shutil
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

import platformdirs

from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.horovod_build.mpi_finder import Mpi

HOROVOD = "0.28.1"
"""Horovod's last release, which exists as source only."""

RECIPE = 6
"""Version of the build; increased when it changes, so that older wheels are not used."""


MOST_WHEELS = 8
"""Wheels that are kept, of about 10 MB each: environments that somebody may go back to."""


@dataclass(frozen=True)
class HorovodKey:
    """All versions that a wheel depends on; equal keys share one wheel."""

    horovod: str
    tensorflow: str
    python: str
    mpi: str
    platform: str
    operations: str

    @property
    def name(self) -> str:
        """Return the key as one folder name."""
        parts = (
            f"horovod-{self.horovod}-r{RECIPE}",
            self.tensorflow,
            self.python,
            self.mpi,
            self.platform,
            self.operations,
        )
        return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part) for part in parts)

    @property
    def folder(self) -> Path:
        """Return the folder in the user's cache where its wheel is kept."""
        return cache() / self.name

    def cached_wheel(self) -> Path | None:
        """Return the cached wheel for this key; None if it is missing or was changed.

        A wheel without a matching digest file is not used.
        """
        for wheel in sorted(self.folder.glob("horovod-*.whl")):
            with contextlib.suppress(OSError):
                if _digest_file(wheel).read_text().strip() == _sha256(wheel.read_bytes()):
                    return wheel
        return None

    def keep(self, built: Path) -> Path:
        """Write a wheel and its digest to the cache atomically; return its path."""
        content, kept = built.read_bytes(), self.folder / built.name
        write_private(_digest_file(kept), _sha256(content) + "\n")
        write_private(kept, content)
        _remove_oldest()
        return kept


def _remove_oldest() -> None:
    """Remove the folders of wheels that were built before the newest `MOST_WHEELS`."""
    folders = [
        path for path in cache().glob("horovod-*") if path.is_dir() and not path.is_symlink()
    ]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in folders[MOST_WHEELS:]:
        shutil.rmtree(old, ignore_errors=True)


def _digest_file(wheel: Path) -> Path:
    return wheel.with_name(wheel.name + ".sha256")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key_for(mpi: Mpi, *, gpu: bool) -> HorovodKey:
    """Return the key of the wheel this interpreter needs.

    Raises:
        EaiError: This interpreter has no TensorFlow.
    """
    return HorovodKey(
        horovod=HOROVOD,
        tensorflow="-".join(installed_tensorflow()),
        python=str(sysconfig.get_config_var("SOABI") or "unknown-abi"),
        mpi=_mpi_name(mpi),
        platform=sysconfig.get_platform(),
        operations="nccl" if gpu else "mpi",
    )


def installed_tensorflow() -> tuple[str, str]:
    """Return the name and version of the distribution TensorFlow comes from.

    Read from the metadata: importing TensorFlow takes seconds.

    Raises:
        EaiError: There is none.
    """
    for name in ("tensorflow-cpu", "tensorflow"):
        version = installed(name)
        if version is not None:
            return name, version
    # A vendor's build may have another name; searching all packages' modules is slower.
    owners = importlib.metadata.packages_distributions().get("tensorflow", [])
    if owners:
        return owners[0], importlib.metadata.version(owners[0])
    raise EaiError(
        "this Python has no TensorFlow, and Horovod is built against it",
        "install it first: `pip install tensorflow-cpu`, or `pip install 'tensorflow[and-cuda]'` "
        "for GPUs",
        code="tensorflow-missing",
    )


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cache() -> Path:
    """Return the folder of the user's cache that holds the wheels."""
    return platformdirs.user_cache_path("eai-notebook") / "horovod"


def _mpi_name(mpi: Mpi) -> str:
    """Return a name for an MPI; outside the environment with its folder, which the wheel links to."""
    name = f"{mpi.name.replace(' ', '').lower()}-{mpi.version}"
    if mpi.belongs_to_python:
        return name
    folder = hashlib.sha256(str(mpi.prefix).encode()).hexdigest()[:8]
    return f"{name}-at-{folder}"
