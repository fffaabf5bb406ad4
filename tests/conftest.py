"""Fixtures shared by all tests: scripts that run on several MPI ranks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import preloaded_mpirun
import pytest
from paths import RANKS
from preloaded_python import PreloadedPython
from scheduling import FOLDERS, unit_of
from waiting import PATIENCE_S

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment
from eai_notebook.engine.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from scheduling import UnitScheduling
    from xdist.remote import Producer

# jsonschema, which nbformat imports, would compile a grammar of addresses, to check what no notebook
# has: seconds of a core in each worker. Without the module it goes without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

if "PYTEST_XDIST_WORKER" in os.environ:
    import_tensorflow()  # which tests import themselves; so it takes half of the time

REPOSITORY = Path(__file__).resolve().parent.parent

_PRELUDE = """
import json, os, pathlib, sys

def report(value):
    place = pathlib.Path(os.environ["EAI_TEST_RESULTS"])
    rank = os.environ.get("OMPI_COMM_WORLD_RANK", "0")
    (place / f"{rank}.json").write_text(json.dumps(value))
"""


class RunRanks(Protocol):
    """Runs a program on ranks and returns what each reports."""

    def __call__(self, source: str, n: int = 2) -> list[Any]:
        """Run `source` on `n` ranks."""


PreloadedRanks = Callable[[], contextlib.AbstractContextManager[None]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and what they start inherits it. The tests press
    # Stop for real, and a signal that is ignored never arrives.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts ranks by the fixture that starts them, and what needs a whole machine."""
    for item in items:
        if "run_ranks" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ranks)
        if unit_of(item.nodeid) in FOLDERS:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> UnitScheduling:
    """Keep tests in one worker that share a machine's worth of things."""
    from scheduling import UnitScheduling

    return UnitScheduling(config, log)


@pytest.fixture(scope="session")
def preloaded_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreloadedPython]:
    """Return a Python that has TensorFlow and Horovod imported, to run scripts in forks of it."""
    server = PreloadedPython(tmp_path_factory.mktemp("preloaded"), _environment(2))
    yield server
    server.close()


@pytest.fixture(scope="session")
def preloaded_ranks(
    preloaded_python: PreloadedPython, tmp_path_factory: pytest.TempPathFactory
) -> PreloadedRanks:
    """Return ``preloaded_ranks()``: groups that start in its block have ranks that are such forks.

    They are the package's own ranks in all else; two save ten seconds of a core. That ranks start
    from nothing is shown by the tests of starts, of magics, of hosts and in the browser.
    """

    script = tmp_path_factory.mktemp("mpirun") / "mpirun"

    @contextlib.contextmanager
    def starting() -> Iterator[None]:
        if not script.exists():
            rank = preloaded_python.command(RANKS / "group_rank.py")
            preloaded_mpirun.write(script, find_mpirun(), rank)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EAI_MPIRUN", str(script))
            yield

    return starting


def _environment(n: int) -> dict[str, str]:
    """Return the environment of a script on `n` ranks."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("EAI_TEST_PATH"))))
    return {
        **os.environ,
        **rank_environment(n),
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


@pytest.fixture
def run_ranks(tmp_path: Path, preloaded_python: PreloadedPython) -> RunRanks:
    """Return ``run_ranks(source, n)``: run a script on `n` ranks of MPI.

    The script calls ``report(value)`` once a rank with something JSON can hold; the
    values come back in rank order. A rank that fails fails the test with its output.
    ``n=1`` runs it without MPI.
    """

    def run(source: str, n: int = 2) -> list[Any]:
        script = tmp_path / "ranks.py"
        script.write_text(_PRELUDE + textwrap.dedent(source))
        results = tmp_path / "results"
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        command = preloaded_python.command(script)
        if n > 1:
            command = [
                find_mpirun(),
                "-n",
                str(n),
                "--oversubscribe",
                "--bind-to",
                "none",
                *command,
            ]
        done = subprocess.run(
            command,
            env={**_environment(n), "EAI_TEST_RESULTS": str(results)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        output = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        assert done.returncode == 0, output
        files = [results / f"{rank}.json" for rank in range(n)]
        missing = [file.stem for file in files if not file.exists()]
        assert not missing, f"no report from ranks {missing}\n{output}"
        return [json.loads(file.read_text()) for file in files]

    return run
