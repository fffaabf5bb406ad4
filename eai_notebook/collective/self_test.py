"""Self-test of the collective backend: every rank sums with the others and checks the sum.

Run under MPI by `eai-notebook install-horovod` and `eai-notebook check`, in processes of
their own: a broken library then breaks the self-test and not the command.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MARK = "eai-probe:"
"""What rank 0's one line of result begins with, among whatever libraries print."""


def probe() -> dict[str, Any]:
    """Sum over all ranks, check the sum, and return the versions of what took part.

    Raises:
        RuntimeError: the sum is wrong.
    """
    from eai_notebook import collective
    from eai_notebook.collective.membership import active_backend

    collective.form()
    import keras
    import tensorflow as tf

    rank, size = collective.rank(), collective.size()
    mine = tf.constant([1.0, 2.0]) * (rank + 1)
    summed = collective.allreduce(mine, "self-test", average=False).numpy().tolist()
    ranks = size * (size + 1) / 2
    if summed != [ranks, 2 * ranks]:
        message = f"rank {rank} of {size} summed to {summed}, not {[ranks, 2 * ranks]}"
        raise RuntimeError(message)
    backend = active_backend()
    version, operations = backend.library()
    found = {
        "rank": rank,
        "size": size,
        "backend": backend.title,
        "version": version,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "mpi": _mpi(size),
        "operations": operations,
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }
    collective.barrier()
    collective.release()
    return found


def _mpi(size: int) -> str:
    if size == 1:
        return "no MPI"
    from mpi4py import MPI

    return str(MPI.Get_library_version().split(",")[0].strip())


if __name__ == "__main__":
    result = probe()
    if result["rank"] == 0:
        sys.stdout.write(f"\n{MARK}{json.dumps(result)}\n")
        sys.stdout.flush()
