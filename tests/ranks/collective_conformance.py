"""The contract of a collective backend, clause by clause; run for each backend and number of ranks."""

import faulthandler
import threading
import time
from typing import Any

import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.collective import membership
from eai_notebook.errors import EaiError, ExchangeReleased

faulthandler.dump_traceback_later(150, exit=True)  # a backend that hangs is seen where
collective.form()
backend = membership.active_backend()
rank, size = collective.rank(), collective.size()
found: dict[str, Any] = {"name": collective.backend_name(), "size": size, "rank": rank}
DTYPES = (
    "uint8",
    "int8",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "bfloat16",
    "float16",
    "float32",
    "float64",
)


def numbers(values: Any) -> Any:
    return np.asarray(values).astype(float).tolist()


one = tf.Variable(1.0)
"""What TensorFlow does not know beforehand: it computes a graph of constants while it plans it."""


def run(body: Any, graph: bool) -> Any:
    return tf.function(body, autograph=False)() if graph else body()


def filled(shape: Any, value: Any = 0.0, dtype: Any = "float32") -> tf.Tensor:
    return tf.cast(tf.fill(shape, one * float(value)), dtype)


def exchanges(dtype: str, how: str) -> dict[str, Any]:
    mine = filled([2, 3], rank + 1, dtype)
    result = {
        "sum": backend.allreduce(mine, f"sum.{how}", "sum"),
        "max": backend.allreduce(mine, f"max.{how}", "max"),
        "gathered": backend.allgather(mine[: rank + 1], f"gather.{how}"),
        "broadcast": backend.broadcast(mine, size - 1, f"broadcast.{how}"),
    }
    if tf.as_dtype(dtype).is_floating:
        result["mean"] = backend.allreduce(mine, f"mean.{how}", "average")
    given = tf.cast(tf.range(size) + tf.cast(one, tf.int32) * 10 * rank, dtype)
    received, lengths = backend.alltoall(given, tf.ones([size], tf.int32), f"all.{how}")
    assert all(each.dtype == dtype for each in (*result.values(), received)), how
    return {**result, "exchanged": (received, lengths)}


def all_dtypes(graph: bool) -> Any:
    how = "graph" if graph else "eager"
    done = run(lambda: {dtype: exchanges(dtype, f"{dtype}.{how}") for dtype in DTYPES}, graph)
    return tf.nest.map_structure(numbers, done)


found["dtypes"] = [all_dtypes(graph) for graph in (False, True)]


def ragged(graph: bool) -> Any:
    """Lengths that differ by rank, none among them; rows of two axes; and a scalar."""
    how = "graph" if graph else "eager"
    rows = filled([3 * rank, 2], rank)
    splits = tf.concat([tf.zeros([size - 1], tf.int32), [3 * rank]], 0)
    received, lengths = backend.alltoall(rows, splits, f"ragged.{how}")
    return [
        tf.shape(backend.allgather(rows, f"rows.{how}")),
        tf.shape(received),
        lengths,
        backend.allreduce(one * 1.0, f"scalar.{how}", "sum"),
        backend.allreduce(filled([0, 4]), f"empty.{how}", "sum"),
    ]


found["ragged"] = [
    tf.nest.map_structure(numbers, run(lambda g=graph: ragged(g), graph)) for graph in (False, True)
]


@tf.function(autograph=False)
def in_any_order(step: tf.Tensor) -> list[tf.Tensor]:
    """Each rank begins its exchanges in another order, and one uses the result of another."""
    names = [str(number) for number in range(6)]
    names = names[rank:] + names[:rank] if rank % 2 == 0 else names[::-1]
    first = {n: backend.allreduce(step + float(n), f"order.{n}", "sum") for n in names}
    second = {n: backend.allreduce(first[n], f"order.again.{n}", "sum") for n in names}
    return [second[str(number)] for number in range(6)]


found["order"] = [[float(v) for v in in_any_order(tf.constant(float(s)))] for s in range(5)]


@tf.function(autograph=False)
def conditional(step: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        step > 1.0,
        lambda: backend.allreduce(step, "branch.a", "sum"),
        lambda: backend.allreduce(-step, "branch.b", "sum"),
    )


found["branches"] = [float(conditional(tf.constant(float(step)))) for step in range(4)]


def mismatch(graph: bool) -> dict[str, str]:
    """Return the error of tensors that do not fit: alike on all ranks, and the ring stands."""
    how = "graph" if graph else "eager"
    codes = {}
    for kind, tensor in (
        ("shape", lambda: filled([2 + rank])),
        ("dtype", lambda: filled([2], 0.0, "float32" if rank == 0 else "float64")),
    ):
        name = f"odd.{kind}.{how}"
        try:
            with collective.translated():
                run(lambda t=tensor, n=name: backend.allreduce(t(), n, "sum"), graph)
        except EaiError as error:
            codes[kind] = f"{error.code} {name in str(error)}"
    return codes


found["mismatch"] = [mismatch(graph) for graph in (False, True)]
collective.barrier()


def blocked(graph: bool) -> str:
    """Return what a rank gets whose peer releases the ring while it waits."""
    if rank == 1:
        time.sleep(0.3)
        collective.release()
        return "left"
    try:
        with collective.translated():
            run(lambda: backend.allreduce(filled([3]), "never", "sum"), graph)
    except ExchangeReleased as error:
        return error.code
    finally:
        collective.release()
    return "none"


def released_by_own_thread() -> str:
    if rank == 0:
        threading.Timer(0.3, collective.release).start()
    try:
        with collective.translated():
            run(lambda: backend.allreduce(filled([3]), f"never.{rank}", "sum"), graph=True)
    except ExchangeReleased as error:
        return error.code
    finally:
        collective.release()
    return "none"


def after_release() -> str:
    try:
        collective.barrier()
    except ExchangeReleased as error:
        return error.code
    return "none"


found["released"] = []
if size > 1:
    for graph in (False, True):
        found["released"].append(blocked(graph))
        found["after"] = after_release()
        collective.form()
        # A graph that was traced in an earlier ring runs in this one.
        found["again"] = [float(v) for v in in_any_order(tf.constant(0.0))]
    found["own"] = released_by_own_thread()
    from mpi4py import MPI

    # A ring over a communicator that somebody else has made, and of a part of the ranks.
    reversed_comm = MPI.COMM_WORLD.Split(0, -MPI.COMM_WORLD.rank)
    collective.form(comm=reversed_comm)
    found["reversed"] = [collective.rank(), list(membership.members())]
    found["reversed sum"] = float(backend.allreduce(tf.constant(rank + 1.0), "reversed", "sum"))
    collective.release()
    if rank == size - 1:
        collective.form([rank])
        found["alone"] = [collective.rank(), collective.size(), collective.exchanges()]
        found["alone sum"] = [float(v) for v in in_any_order(tf.constant(0.0))]
        collective.release()
    collective.form()
    collective.barrier()
report(found)  # noqa: F821 -- of the tests' prelude
