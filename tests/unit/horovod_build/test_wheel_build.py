"""Build Horovod: its needs, its settings, its errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import source_check, wheel_build
from eai_notebook.horovod_build.cache_key import key_for
from eai_notebook.horovod_build.mpi_finder import Mpi

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = Mpi(Path(sys.prefix).resolve(), "Open MPI", "5.0.11")


def tool(folder: Path, name: str, script: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("HOROVOD_CUDA_HOME", raising=False)
    return tmp_path / "bin"


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ((), r"g\+\+ and make are missing"),
        (("make",), r"g\+\+ is missing"),
        (("g++",), "make is missing"),
    ],
)
def test_missing_tools_are_named_before_anything_starts(
    bare: Path, there: tuple[str, ...], missing: str
) -> None:
    for name in (*there, "apt-get"):
        tool(bare, name)
    with pytest.raises(EaiError, match=missing) as failed:
        wheel_build.require_toolchain(OURS, gpu=False)
    assert "apt-get install g++ make" in failed.value.remedy
    assert "\n" not in str(failed.value)


def test_mpi_without_a_compiler_wrapper(bare: Path, tmp_path: Path) -> None:
    for name in ("g++", "make"):
        tool(bare, name)
    with pytest.raises(EaiError, match="has no mpicxx"):
        wheel_build.require_toolchain(Mpi(tmp_path, "Open MPI", "4"), gpu=False)


def test_gpu_without_nvcc(bare: Path) -> None:
    for name in ("g++", "make"):
        tool(bare, name)
    with pytest.raises(EaiError, match="nvcc is not on PATH"):
        wheel_build.require_toolchain(OURS, gpu=True)


def test_environment_chooses_mpi_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOROVOD_WITH_GLOO", "1")
    env = wheel_build.build_environment(tmp_path, OURS, gpu=False)
    assert env["HOROVOD_CPU_OPERATIONS"] == "MPI"
    assert env["HOROVOD_WITHOUT_GLOO"] == "1"
    assert "HOROVOD_WITH_GLOO" not in env
    assert "HOROVOD_GPU_OPERATIONS" not in env
    assert env["PATH"].startswith(str(tmp_path / "tools" / "bin"))


def test_gpu_environment_chooses_nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOROVOD_CUDA_HOME", "/opt/cuda")
    env = wheel_build.build_environment(tmp_path, OURS, gpu=True)
    assert env["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert env["HOROVOD_CUDA_HOME"] == "/opt/cuda"


@pytest.fixture
def any_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the wrapper take every file for the one it knows."""
    stub = tmp_path / "check.py"
    stub.write_text("")
    monkeypatch.setattr(wheel_build, "_SOURCE_CHECK", stub)


@pytest.mark.usefixtures("any_source")
@pytest.mark.parametrize(
    ("mpi", "source", "expected"),
    [
        (OURS, "mpi_ops.cc", ["-Wl,-rpath,$ORIGIN/../../../..", "-c", "mpi_ops.cc"]),
        (OURS, "xla_mpi_ops.cc", ["-c", "xla_mpi_ops.cc", "-UTENSORFLOW_VERSION"]),
        (Mpi(Path("/opt/mpi"), "Open MPI", "5"), "mpi_ops.cc", ["-c", "mpi_ops.cc"]),
    ],
)
def test_compiler_wrapper_mends_one_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mpi: Mpi, source: str, expected: list[str]
) -> None:
    compiler = tool(tmp_path, "compiler", 'printf "%s\\n" "$@"')
    monkeypatch.setenv("CXX", str(compiler))
    env = wheel_build.build_environment(tmp_path, mpi, gpu=False)
    output = subprocess.run(
        [env["CXX"], "-c", source], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines() == expected


@pytest.mark.usefixtures("any_source")
def test_the_thread_of_the_timeline_sleeps_between_two_looks(tmp_path: Path) -> None:
    env = wheel_build.build_environment(tmp_path, OURS, gpu=False)
    code = "#include <thread>\nvoid look() { std::this_thread::yield(); }\n"
    found = {}
    for name in ("timeline.cc", "other.cc"):
        source = tmp_path / "horovod" / "common" / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(code)
        compiled = [env["CXX"], "-std=c++17", "-c", str(source), "-o", str(tmp_path / "object")]
        subprocess.run(compiled, check=True)
        seen = subprocess.run(
            [env["CXX"], "-E", "-P", str(source)], capture_output=True, text=True, check=True
        )
        found[name] = seen.stdout.rpartition("void look()")[2].strip()
    assert found["other.cc"] == "{ std::this_thread::yield(); }"
    assert "sleep_for(std::chrono::milliseconds(10))" in found["timeline.cc"]


@pytest.mark.parametrize("name", ["common/timeline.cc", "tensorflow/xla_mpi_ops.cc"])
def test_a_file_that_our_changes_were_not_written_for_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "horovod" / name
    source.parent.mkdir(parents=True)
    source.write_text("void look() {}\n")
    env = wheel_build.build_environment(tmp_path, OURS, gpu=False)
    known = hashlib.sha256(source.read_bytes()).hexdigest()
    compiled = [env["CXX"], "-c", str(source), "-o", str(tmp_path / "object")]
    said = subprocess.run(compiled, capture_output=True, text=True, check=False)
    assert said.returncode
    assert not (tmp_path / "object").exists()
    log = tmp_path / "build.log"
    log.write_text(f"compiling\n{said.stderr}make: stopped\n")
    with pytest.raises(EaiError, match=name) as raised:
        wheel_build._raise_if_unknown(log)
    assert raised.value.code == "horovod-source-unknown"
    monkeypatch.setitem(source_check.SHA256, name, known)
    assert source_check.unknown(source) == []
    source.write_text("void look() { }\n")
    assert source_check.unknown(source) == [name]


def test_every_file_that_a_header_changes_is_known() -> None:
    changed = {header.stem for header in wheel_build._HEADERS.glob("*.h")}
    changed -= {"blocking_wait", "idle_sleep"}  # included by the others
    known = {Path(name).stem for name in source_check.SHA256 if name.endswith(".cc")}
    assert known == changed | {"xla_mpi_ops"}


def test_the_horovod_of_this_environment_was_built_with_the_headers() -> None:
    assert wheel_build.has_patches()


def test_compilers_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = int(2 * wheel_build.BYTES_PER_COMPILER)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert wheel_build.parallel_compilers() == 2
    Memory.available = 0
    assert wheel_build.parallel_compilers() == 1


def test_compiler_lines_become_progress() -> None:
    heard: list[tuple[float, str]] = []
    listen = wheel_build._Compiling(lambda done, what: heard.append((done, what)))
    for line in (
        "  Building wheel for horovod (pyproject.toml): started",
        "  -- The CXX compiler identification is GNU 12.2.0",
        "  [ 50%] Building CXX object horovod/tensorflow/CMakeFiles/x.dir/common/half.cc.o",
        "  [100%] Linking CXX shared library ../mpi_lib.cpython-311-x86_64-linux-gnu.so",
    ):
        listen(line)
    assert [what for _, what in heard] == [
        "configuring",
        "compiling half.cc",
        "linking mpi_lib.cpython-311-x86_64-linux-gnu.so",
    ]
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_failed_build_shows_its_end_and_names_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pip = tool(tmp_path, "python", "echo no space left on device; exit 1")
    monkeypatch.setattr(sys, "executable", str(pip))
    key = key_for(OURS, gpu=False)
    with pytest.raises(EaiError, match=r"build\.log") as failed:
        wheel_build.build_wheel(key, OURS, gpu=False, report=lambda _done, _what: None)
    assert "fetching the build tools failed" in str(failed.value)
    assert "no space left on device" in capfd.readouterr().err
    assert key.cached_wheel() is None


def test_what_is_downloaded_is_pinned_and_compared_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(wheel_build, "SDIST_SHA256", "0" * 64)
    monkeypatch.setattr(wheel_build, "TOOLS", ())
    heard: list[str] = []

    def pip(arguments: Sequence[str], *_: object) -> None:
        heard.extend(arguments)
        if "wheel" in arguments:
            asked = Path(arguments[arguments.index("--requirement") + 1])
            heard.append(asked.read_text().strip())
            raise EaiError("stopped", "", code="horovod-build-failed")

    monkeypatch.setattr(wheel_build, "_pip", pip)
    with pytest.raises(EaiError, match="stopped"):
        wheel_build.build_wheel(
            key_for(OURS, gpu=False), OURS, gpu=False, report=lambda _done, _what: None
        )
    assert "--require-hashes" in heard
    assert heard[-1] == f"horovod==0.28.1 --hash=sha256:{'0' * 64}"
    for path in (tmp_path / "eai-notebook", tmp_path / "eai-notebook" / "horovod"):
        assert path.stat().st_mode & 0o077 == 0


def test_build_tools_are_pinned() -> None:
    assert all("==" in tool for tool in wheel_build.TOOLS)


_CALLS_THAT_FAIL = """
#include "mpi_controller.h"
#include <iostream>
template <typename Call> void report(Call call) {
  try { call(); std::cout << "went on\\n"; } catch (const std::runtime_error& error) { std::cout << error.what() << "\\n"; }
}
int main() {
  MPI_Init(nullptr, nullptr);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  int one = 1, other = 0, at = 0, none = 5;
  report([&] { MPI_Gather(&one, 1, MPI_INT, &other, 1, MPI_INT, none, MPI_COMM_SELF); });
  report([&] { MPI_Gatherv(&one, 1, MPI_INT, &other, &one, &at, MPI_INT, none, MPI_COMM_SELF); });
  report([&] { MPI_Bcast(&one, 1, MPI_INT, none, MPI_COMM_SELF); });
  report([&] { MPI_Bcast(&one, 1, MPI_INT, 0, MPI_COMM_SELF); });
  return MPI_Finalize();
}
"""


def test_a_call_that_fails_ends_the_negotiation(tmp_path: Path) -> None:
    (tmp_path / "calls.cc").write_text(_CALLS_THAT_FAIL)
    compiler = [str(OURS.program("mpicxx")), "-I", str(wheel_build._HEADERS), "-DEAI_RECIPE=1"]
    program = tmp_path / "calls"
    subprocess.run([*compiler, str(tmp_path / "calls.cc"), "-o", str(program)], check=True)
    said = subprocess.run([str(program)], capture_output=True, text=True, check=True, cwd=tmp_path)
    failed = "failed, see MPI output for details."
    assert said.stdout.splitlines() == [
        f"MPI_Gather {failed}",
        f"MPI_Gatherv {failed}",
        f"MPI_Bcast {failed}",
        "went on",
    ]
    assert b"EAI_HOROVOD_RECIPE=1\0" in program.read_bytes()
