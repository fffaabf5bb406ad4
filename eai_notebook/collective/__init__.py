"""Exchanges between ranks: the ring, its collectives, and the backends behind them.

Importing this module loads neither TensorFlow nor a backend's library: `rank` and `size` are
cheap to ask for, also where there is no ring.
"""

from __future__ import annotations

from eai_notebook.collective.backend import Exchange
from eai_notebook.collective.clock_sync import clock_offset
from eai_notebook.collective.differentiable import joint_sum
from eai_notebook.collective.membership import (
    backend_name,
    backend_title,
    ensure_formed,
    exchange_threads,
    exchanges,
    exchanges_begun,
    forget_on_form,
    form,
    fuse_up_to,
    fused_bytes,
    is_formed,
    launched_size,
    local_rank,
    local_size,
    notice,
    rank,
    release,
    size,
    start_timeline,
    stop_timeline,
    translate,
    translated,
    watch_missing,
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
    "backend_name",
    "backend_title",
    "barrier",
    "broadcast_object",
    "broadcast_variables",
    "clock_offset",
    "ensure_formed",
    "exchange_threads",
    "exchanges",
    "exchanges_begun",
    "forget_on_form",
    "form",
    "fuse_up_to",
    "fused_bytes",
    "gather_numpy",
    "is_formed",
    "joint_sum",
    "launched_size",
    "local_rank",
    "local_size",
    "name_scope",
    "notice",
    "rank",
    "release",
    "size",
    "start_timeline",
    "stop_timeline",
    "translate",
    "translated",
    "watch_missing",
]
