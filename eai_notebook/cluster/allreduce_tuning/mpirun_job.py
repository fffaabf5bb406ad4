"""Run a Python module on a group's hosts under a short ``mpirun`` of its own."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.delivery import listen_rules
from eai_notebook.cluster.forwarding import forwarded
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.cluster.mpirun_arguments import (
    daemon_arguments,
    host_environment,
    mpirun_arguments,
)
from eai_notebook.cluster.mpirun_output import explain, lost_host
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import leased_process
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eai_notebook.cluster.preflight import Placement

PATIENCE_S: Final = 90.0
"""After so long without a line of output it counts as stuck; on a busy machine a start takes a minute."""
LOOK_S: Final = 0.5


def run_module(
    placement: Placement, ring: Mapping[str, str], module: Sequence[str], *, mark: str, what: str
) -> dict[str, Any]:
    """Run ``python -m *module`` on every rank; return what rank 0 printed after `mark`.

    Programs listen on the networks of `placement` only, as those of a group do. ``ring`` are MCA
    parameters; ``what`` says in an error what was being done.

    Raises:
        EaiError: it failed or hung, with the host that was lost if one was.
    """
    with listen_rules(placement) as listen:
        environment = {**os.environ, **host_environment(placement), **listen}
        command = [find_mpirun(), "-n", str(placement.size), *daemon_arguments(listen)]
        command += [*mpirun_arguments(placement, ring), *forwarded(environment)]
        said = _output_of([*command, *module_command(*module)], environment, what)
    for line in said.splitlines():
        if line.startswith(mark):
            result: dict[str, Any] = json.loads(line.removeprefix(mark))
            return result
    raise EaiError(
        f"{what} failed ({why_mpirun_failed(said)})",
        "see whether all hosts are up: `eai-notebook check --hosts ...`",
        code="hosts-job-failed",
    )


def _output_of(command: Sequence[str], environment: Mapping[str, str], what: str) -> str:
    """Run a command that ends with this process, and return what it printed.

    Raises:
        EaiError: It hung.
    """
    with leased_process(command, environment, patience=10.0) as process:
        said: list[str] = []
        reader = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
        reader.start()
        count, since = 0, time.monotonic()
        while reader.is_alive():
            reader.join(LOOK_S)
            if len(said) != count:
                count, since = len(said), time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                raise EaiError(
                    f"{what} got no further for {PATIENCE_S:.0f} s",
                    "see what holds it up: `eai-notebook check --hosts ...`",
                    code="hosts-silent",
                )
        process.wait()
    return "".join(said)


def why_mpirun_failed(said: str) -> str:
    """Return the root cause in what ``mpirun`` printed, in one paragraph."""
    if host := lost_host(said):
        return f"the host {host} was lost"
    return explain(said) or "no reason given"
