"""The cache of built Horovod wheels and the key that each is valid for.

A Horovod wheel holds compiled code for one TensorFlow, one Python and one MPI. pip's own
wheel cache knows only Horovod's version, and would hand a wheel built for last year's
TensorFlow to this year's; so wheels are kept here under a name that says all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import re
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
"""The last Horovod there is; it exists as source only."""

RECIPE = 4
"""Raised when the way it is built changes, so that older wheels are not used again."""


@dataclass(frozen=True)
class HorovodKey:
    """Everything a wheel depends on; two equal keys can share one wheel."""

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
        """Return the wheel built earlier for this key, if it is there as it was built.

        One whose digest is not beside it, or is another's, is not used.
        """
        for wheel in sorted(self.folder.glob("horovod-*.whl")):
            with contextlib.suppress(OSError):
                if _digest_file(wheel).read_text().strip() == _sha256(wheel.read_bytes()):
                    return wheel
        return None

    def keep(self, built: Path) -> Path:
        """Put a wheel into the cache, whole or not at all, with its digest; return where it is."""
        content, kept = built.read_bytes(), self.folder / built.name
        write_private(_digest_file(kept), _sha256(content) + "\n")
        write_private(kept, content)
        return kept


def _digest_file(wheel: Path) -> Path:
    return wheel.with_name(wheel.name + ".sha256")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key_for(mpi: Mpi, *, gpu: bool) -> HorovodKey:
    """Return the key of the wheel this interpreter needs.

    Raises:
        EaiError: this interpreter has no TensorFlow.
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
        EaiError: there is none.
    """
    for name in ("tensorflow-cpu", "tensorflow"):
        version = installed(name)
        if version is not None:
            return name, version
    # A vendor's build has a name of its own; asking for all packages' modules is slower.
    owners = importlib.metadata.packages_distributions().get("tensorflow", [])
    if owners:
        return owners[0], importlib.metadata.version(owners[0])
    raise EaiError(
        "this Python has no TensorFlow, and Horovod is built against it",
        "install it first: `pip install tensorflow-cpu`, or `pip install 'tensorflow[and-cuda]'` "
        "for GPUs",
    )


def installed(name: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cache() -> Path:
    """Return the folder of the user's cache that holds the wheels."""
    return platformdirs.user_cache_path("eai-notebook") / "horovod"


def _mpi_name(mpi: Mpi) -> str:
    """Name an MPI; one outside the environment also by place, which the wheel links to."""
    name = f"{mpi.name.replace(' ', '').lower()}-{mpi.version}"
    if mpi.belongs_to_python:
        return name
    place = hashlib.sha256(str(mpi.prefix).encode()).hexdigest()[:8]
    return f"{name}-at-{place}"
