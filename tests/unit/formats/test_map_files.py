"""Rows from anyone's Python, in processes that die with their parent and never hang it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from expected_errors import raises_code
from waiting import PATIENCE_S

from eai_notebook import io
from eai_notebook.process_lease import command_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.io.sources.file import File


def numbers(file: File) -> dict[str, Any]:
    """Return the numbers of a text file, one a line."""
    with file.open() as stream:
        values = np.array([int(line) for line in stream], np.int64)
    return {"value": values, "label": values[:, None].astype(np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        lines = range(100 * number, 100 * number + 10 + number)
        (tmp_path / f"{number}.txt").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def readers() -> list[psutil.Process]:
    """Return this process's own reader processes."""
    module = "eai_notebook.io.pipeline.worker_process"
    return [
        child for child in psutil.Process().children() if module in " ".join(command_line(child))
    ]


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return not alive


@pytest.mark.parametrize("rows", [None, lambda file: 10 + int(Path(file.url).stem)])
def test_every_row_comes_once_through_processes(
    folder: Path, rows: Callable[[File], int] | None
) -> None:
    data = io.map_files(str(folder / "*.txt"), numbers, 5, rows=rows, shard=False)
    expected = sorted(value for n in range(6) for value in range(100 * n, 100 * n + 10 + n))
    for _ in range(2):
        seen: list[int] = []
        for features, label in data:
            assert features["value"].numpy().tolist() == label.numpy()[:, 0].tolist()
            seen += features["value"].numpy().tolist()
        assert sorted(seen) == expected
    started = readers()
    assert started
    data.close()
    assert gone(started)


def test_a_function_that_fails_is_reported_with_its_line(folder: Path) -> None:
    (folder / "3.txt").write_text("one\n")
    with raises_code("reader-process-failed", "ValueError: invalid literal", "test_map_files.py"):
        io.map_files(str(folder / "*.txt"), numbers, 5, shard=False)


def test_a_function_that_returns_no_rows_is_reported(folder: Path) -> None:
    with raises_code("function-result-invalid", "list", ".txt"):
        io.map_files(str(folder / "*.txt"), lambda _: [1], 5, shard=False)  # type: ignore[arg-type, return-value]
    uneven = {"a": np.zeros(2), "b": np.zeros(3)}
    with raises_code("function-result-invalid", "a (2,)", "b (3,)", ".txt"):
        io.map_files(str(folder / "*.txt"), lambda _: uneven, 5, shard=False)


def killed(file: File) -> dict[str, Any]:
    """Die in the middle of a file, but not while rows are counted."""
    if Path(file.url).with_suffix(".die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers(file)


def test_a_killed_reader_is_an_error_at_once(folder: Path) -> None:
    data = io.map_files(str(folder / "*.txt"), killed, 5, shard=False, shuffle=False)
    (folder / "4.die").touch()
    with raises_code("reader-process-died", "SIGKILL", "4.txt"):
        list(data)
    (folder / "4.die").unlink()
    assert sum(len(label) for _, label in data) == 75


_FOREVER = """
    import sys, time, numpy as np
    from eai_notebook.io import map_files

    def endless(file):
        with file.open() as stream:
            rows = np.array([int(line) for line in stream], np.int64)
        return {"value": rows}

    data = map_files(sys.argv[1], endless, 2, shard=False, rows=lambda file: 10 + int(file.url[-5]))
    batches = iter(data)
    next(batches)
    print("reading", flush=True)
    time.sleep(600)
"""


def test_readers_leave_no_process_and_no_memory_when_their_parent_is_killed(folder: Path) -> None:
    script = folder / "forever.py"
    script.write_text(textwrap.dedent(_FOREVER))
    with subprocess.Popen(
        [sys.executable, script, str(folder / "*.txt")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        while parent.stdout.readline() != "reading\n":
            assert parent.poll() is None
        started = psutil.Process(parent.pid).children(recursive=True)
        assert started
        # Their own: programs beside this one share memory, too.
        shared = {each.path for process in started for each in process.memory_maps()}
        shared = {path for path in shared if path.startswith("/dev/shm/")}  # noqa: S108
        parent.kill()
    assert gone(started)
    assert not any(Path(path).exists() for path in shared)


def slow(file: File) -> dict[str, Any]:
    if Path(file.url).with_suffix(".slow").exists():
        time.sleep(300)
    return numbers(file)


def test_a_loop_left_early_ends_readers_that_are_busy(folder: Path) -> None:
    data = io.map_files(str(folder / "*.txt"), slow, 5, shard=False, shuffle=False)
    (folder / "4.slow").touch()
    batches = iter(data)
    next(batches)
    started = readers()
    data.close()
    assert gone(started)


def read_numpy(file: File) -> dict[str, np.ndarray]:
    with file.open() as stream:
        return {"x": np.load(stream)}


def test_files_without_rows_are_passed_over_and_other_types_named(tmp_path: Path) -> None:
    for name, rows in (("a", 6), ("b", 0), ("c", 6)):
        np.save(tmp_path / f"{name}.npy", np.arange(rows, dtype="float32"))
    data = io.map_files(str(tmp_path / "*.npy"), read_numpy, 3, shuffle=False)
    assert [batch["x"].numpy().tolist() for batch in data] == [[0, 1, 2], [3, 4, 5]] * 2
    data.close()
    np.save(tmp_path / "b.npy", np.arange(3))
    with raises_code("files-differ", "'x'", "int64", "b.npy", "float32"):
        io.map_files(str(tmp_path / "*.npy"), read_numpy, 3)
