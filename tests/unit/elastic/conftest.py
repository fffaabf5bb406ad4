"""Ranks that outlive each other, for tests of elastic training."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from waiting import PATIENCE_S

from eai_notebook.cluster.mpi_environment import AWAY, find_mpirun, rank_environment

if TYPE_CHECKING:
    from preloaded_python import PreloadedPython

RANKS = Path(__file__).resolve().parent.parent.parent / "ranks"

LOOPBACK = {"OMPI_MCA_btl_tcp_if_include": "lo"}
"""Newcomers cannot be reached by shared memory."""

Lines = list[dict[str, Any]]
Elastic = Callable[..., list[Lines]]


@pytest.fixture(scope="session")
def elastic_ranks(
    preloaded_python: PreloadedPython, tmp_path_factory: pytest.TempPathFactory
) -> Elastic:
    """Return ``elastic_ranks(program, n, *arguments)``: what each of `n` ranks has written.

    The program's last argument is a folder, where each rank writes lines of JSON, and ``launcher`` is
    the process of mpirun. With "end launcher" in its arguments ranks outlive that.
    """

    def run(program: str, n: int, *arguments: Any) -> list[Lines]:
        folder = tmp_path_factory.mktemp("elastic")
        command = [find_mpirun(), "--with-ft", "ulfm", "-n", str(n), "--oversubscribe"]
        words = [json.dumps(argument) for argument in arguments]
        rank = [*preloaded_python.command(RANKS / program), *words, str(folder)]
        environment = {**os.environ, **rank_environment(n), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= {**LOOPBACK, "EAI_TEST_COMMAND": json.dumps(rank)}
        outlive = "end launcher" in words[0]
        environment |= AWAY if outlive else {}
        noted = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "launcher")]
        done = subprocess.run(
            [*noted, *command, "--bind-to", "none", *rank],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        files = [folder / f"{rank}.jsonl" for rank in range(n)]
        files += sorted(set(folder.glob("*.jsonl")) - set(files))
        assert all(file.exists() for file in files), f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        for file in files if outlive else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(json.loads(file.read_text().splitlines()[0])["pid"]).wait(PATIENCE_S)
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    return run
