"""Self-test of Horovod: every rank sums with the others and checks the sum.

Run under MPI by `eai-notebook install-horovod` and `eai-notebook check`, in processes of
its own: a broken library then breaks the probe and not the command.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MARK = "eai-probe:"
"""What rank 0's one line of result begins with, among whatever libraries print."""


def probe() -> dict[str, Any]:
    """Sum over all ranks, check the sum, and return what this Horovod is made of.

    Raises:
        RuntimeError: the sum is not what it must be.
    """
    from mpi4py import MPI  # isort: skip  before Horovod, so that Horovod does not own MPI
    import horovod
    import horovod.tensorflow as hvd
    import keras
    import tensorflow as tf

    hvd.init()
    rank, size = hvd.rank(), hvd.size()
    summed = hvd.allreduce(tf.constant([1.0, 2.0]) * (rank + 1), op=hvd.Sum).numpy().tolist()
    ranks = size * (size + 1) / 2
    if summed != [ranks, 2 * ranks]:
        message = f"rank {rank} of {size} summed to {summed}, not {[ranks, 2 * ranks]}"
        raise RuntimeError(message)
    found = {
        "rank": rank,
        "size": size,
        "horovod": horovod.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "mpi": MPI.Get_library_version().split(",")[0].strip(),
        "operations": [
            name
            for name, built in (
                ("MPI", hvd.mpi_built()),
                ("NCCL", bool(hvd.nccl_built())),
                ("Gloo", hvd.gloo_built()),
            )
            if built
        ],
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }
    hvd.shutdown()
    return found


if __name__ == "__main__":
    result = probe()
    if result["rank"] == 0:
        sys.stdout.write(f"\n{MARK}{json.dumps(result)}\n")
        sys.stdout.flush()
