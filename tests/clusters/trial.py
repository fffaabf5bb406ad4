"""Whether this machine can have a cluster for tests: one is started, runs one plain job of two, and is ended.

Run as ``python -m clusters.trial slurm`` (or ``kube``) in the folder `tests`. It exits with 1 if the cluster
cannot be had, and its last line then says why. Nothing of the product runs in the job: a fault of the product's is none
of the machine's.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import Final

from clusters import kube_cluster, slurm_cluster

_PATIENCE_S: Final = 60.0
_LONGEST: Final = 200
"""Letters of a reason that are shown."""
_PORT: Final = 7171
_POD: Final = f"""
import socket, sys
with socket.create_server(("", {_PORT})), socket.create_connection(sys.argv[1:], 20) as desk:
    lines = desk.makefile()
    other = lines.readline().strip()
    socket.create_connection((other, {_PORT}), 20).close()
    desk.sendall(b"reached\\n")
    lines.readline()
"""
"""A pod's program: it reaches the notebook's machine, which has it reach the other pod."""


def try_slurm() -> None:
    """Run ``mpirun`` on two nodes of a Slurm."""
    with slurm_cluster.SlurmCluster(3, cores=4) as made:
        made.run_plain_job([sys.executable, "-c", "pass"], _PATIENCE_S)


def try_kube() -> None:
    """Run two pods, which reach this machine and each other."""
    with (
        kube_cluster.KubeCluster(2) as made,
        socket.create_server((made.address, 0)) as door,
    ):
        door.settimeout(_PATIENCE_S)
        Thread(target=_bring_together, args=[door], daemon=True).start()
        where = [str(each) for each in door.getsockname()]
        made.run_plain_job([sys.executable, "-c", _POD, *where], _PATIENCE_S)


def _bring_together(door: socket.socket) -> None:
    """Name each of two pods to the other, and let both end when both have been reached."""
    with contextlib.suppress(OSError):  # the pods' job fails then
        pods = [door.accept() for _ in range(2)]
        lines = [pod.makefile("rw") for pod, _ in pods]
        for line, (_, address) in zip(lines, reversed(pods), strict=True):
            line.write(f"{address[0]}\n")
            line.flush()
        for line in lines:
            line.readline()
        for line in lines:
            line.write("end\n")
            line.flush()


TRIALS: Final = {
    "slurm": (slurm_cluster.why_not, try_slurm),
    "kube": (kube_cluster.why_not, try_kube),
}


def main() -> None:
    """Try the cluster that the first argument names."""
    why_not, attempt = TRIALS[sys.argv[1]]
    reason = why_not()
    if reason is None:
        try:
            attempt()
        except Exception as error:  # noqa: BLE001  whatever this machine does not allow
            with tempfile.NamedTemporaryFile(
                "w", prefix=f"eai-{sys.argv[1]}-", suffix=".log", delete=False
            ) as log:
                log.write(f"{error}\n")
            first = str(error).strip().partition("\n")[0][:_LONGEST] or type(error).__name__
            reason = f"{first} ({Path(log.name)})"
    if reason is not None:
        sys.stdout.write(f"{reason}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
