"""Updates with rows are equal bit by bit on all ranks, also on those with more threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RunRanks = Callable[..., list[Any]]

PROGRAM = """
import os
from eai_notebook import collective
collective.form()
threads = str(1 + 3 * collective.rank())
os.environ.update(TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS=threads)
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook.train.replica_check import checksum

LENGTH, WIDTH, ROWS = 300, 16, 30_000
rng = np.random.default_rng(eai.rank())
STEPS = [(rng.zipf(1.3, ROWS) % LENGTH, rng.normal(size=(ROWS, WIDTH)).astype("f4"))
         for _ in range(3)]

def bits(make, **how):
    table = keras.Variable(np.ones((LENGTH, WIDTH), "f4"), name="table")
    optimizer = make()
    optimizer.build([table])

    @tf.function(autograph=False)
    def step(ids, rows):
        slices = tf.IndexedSlices(rows, ids, tf.constant([LENGTH, WIDTH]))
        given = [slices]
        if how:
            given = eai.allreduce_gradients(given, [table], **how)
        optimizer.apply(given, [table])

    for ids, rows in STEPS:
        step(tf.constant(ids, "int32"), tf.constant(rows))
    return [checksum(np.asarray(each)) for each in (table, *optimizer.variables)]

o = keras.optimizers
apart = lambda inner: eai.DistributedOptimizer(inner, sparse="rows", wire="fp16")
found = {
    "SGD": bits(lambda: apart(o.SGD(0.1))),
    "Adagrad": bits(lambda: apart(o.Adagrad(0.1))),
    "clipped by value": bits(lambda: apart(o.Adagrad(0.1, clipvalue=0.01))),
    "routed": bits(lambda: apart(eai.RoutedOptimizer({}, o.Adagrad(0.1)))),
    "Adam": bits(lambda: apart(o.Adam(0.1))),
    "in a loop": bits(lambda: o.Adagrad(0.1), sparse="rows"),
    "merged in a loop": bits(lambda: o.Adagrad(0.1), sparse="merged"),
    "merged": bits(lambda: eai.DistributedOptimizer(o.Adagrad(0.1))),
    "row by row": bits(lambda: eai.DistributedOptimizer(o.Adagrad(0.1), row_wise="exact")),
}
report(found)
"""


def test_all_ranks_get_the_same_bits(run_ranks: RunRanks) -> None:
    one, other = run_ranks(PROGRAM, 2)
    assert ", ".join(name for name in one if one[name] != other[name]) == ""
