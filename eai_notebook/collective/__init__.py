"""The one seam to Horovod and MPI; nothing else in the package imports them.

Importing this module loads neither TensorFlow nor Horovod: `rank` and `size` are cheap
to ask for, also where there is no ring.
"""

from __future__ import annotations

from eai_notebook.collective.clock_sync import clock_offset
from eai_notebook.collective.differentiable import joint_sum
from eai_notebook.collective.horovod_timeline import Exchange, start_timeline, stop_timeline
from eai_notebook.collective.membership import (
    ensure_formed,
    exchanges,
    exchanges_begun,
    forget_on_form,
    form,
    fuse_up_to,
    is_formed,
    launched_size,
    local_rank,
    local_size,
    rank,
    release,
    size,
)
from eai_notebook.collective.ops import (
    allgather,
    allreduce,
    allreduce_numpy,
    alltoall,
    barrier,
    broadcast_object,
    broadcast_variables,
    gather_numpy,
    name_scope,
)

__all__ = [
    "Exchange",
    "allgather",
    "allreduce",
    "allreduce_numpy",
    "alltoall",
    "barrier",
    "broadcast_object",
    "broadcast_variables",
    "clock_offset",
    "ensure_formed",
    "exchanges",
    "exchanges_begun",
    "forget_on_form",
    "form",
    "fuse_up_to",
    "gather_numpy",
    "is_formed",
    "joint_sum",
    "launched_size",
    "local_rank",
    "local_size",
    "name_scope",
    "rank",
    "release",
    "size",
    "start_timeline",
    "stop_timeline",
]
