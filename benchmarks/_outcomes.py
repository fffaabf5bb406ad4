"""Runs a file of tests, and yields each one's outcome as soon as it is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPOSITORY = Path(__file__).resolve().parent.parent


def outcomes(file: Path, timeout: float) -> Iterator[dict[str, Any]]:
    """Run the tests of a file; yield what is known of each (its set-up and its end, too) when it is known.

    A test that lasts `timeout` seconds is ended, and ``wrong`` says so.
    """
    read, write = os.pipe()
    words = ["-q", str(file), f"--timeout={timeout}"]
    with subprocess.Popen(
        [sys.executable, __file__, str(write), *words],
        cwd=_REPOSITORY,
        stdout=sys.stderr,
        pass_fds=[write],
    ):
        os.close(write)
        with os.fdopen(read) as lines:
            for line in lines:
                yield json.loads(line)


class _Outcomes:
    """A plug-in of pytest that writes outcomes into a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test, or of what was done before or after it."""
        found = {
            "name": report.nodeid.partition("::")[2],
            "part": report.when,
            "seconds": round(report.duration, 2),
            "wrong": report.longreprtext if report.failed else "",
        }
        os.write(self._pipe, json.dumps(found).encode() + b"\n")


def _main() -> int:
    pipe, *words = sys.argv[1:]
    sys.path.pop(0)  # this folder, whose files have names of the tests' folders
    os.set_inheritable(int(pipe), False)  # noqa: FBT003  else what a test leaves would keep it open
    return int(pytest.main(words, plugins=[_Outcomes(int(pipe))]))


if __name__ == "__main__":
    sys.exit(_main())
