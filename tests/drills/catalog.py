"""The faults that are injected for real: what happens on the ranks, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Comes = Literal["error", "interrupt", "death", "stuck", "stall", "fine", "gone"]

PREPARE = """
import ctypes, hashlib, os, signal, sys, time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook import collective
rank = collective.rank()

def loop(steps=10_000, until=None):
    for step in range(steps):
        if step == until:
            return
        collective.allreduce_numpy(np.ones(1000))

def train(epochs=10_000, at=None, act=None):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.01)), "mse")
    class Act(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == at:
                act()
    x, y = np.ones((320, 8), "float32"), np.ones((320, 1), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    eai.fit(model, data, epochs=epochs, verbose=0, callbacks=[Act()])

def fail():
    raise ValueError("on purpose")

def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Drill:
    """A cell that goes wrong.

    ``after`` is when the user presses Stop, in seconds from when a rank began with the cell, where
    the fault is an interrupt. ``says`` is in what the user reads. ``keeps`` says whether
    the ranks' variables must survive. ``"stuck"`` is an interrupt that a rank cannot hear:
    the cell ends without it, and the next one ends the group if it still does not listen.
    """

    name: str
    code: str
    comes: Comes
    says: str = ""
    after: float | None = None

    @property
    def keeps(self) -> bool:
        """Whether every rank must still have its variables when the cell has ended."""
        return self.comes not in ("death", "stuck")


DRILLS = (
    Drill("raise before a collective", "if rank == 1: fail()\nloop()", "error", "on purpose"),
    Drill("raise between collectives", "loop(until=50 if rank == 1 else None)\nfail()", "error"),
    Drill("raise after a collective", "loop(10)\nif rank == 1: fail()", "error", "on purpose"),
    Drill("raise on all", "fail()", "error", "on purpose"),
    Drill("raise in fit", "train(at=3, act=fail if rank == 1 else int)", "error", "on purpose"),
    Drill("mismatched shapes", "collective.allreduce_numpy(np.ones(2 + rank))", "error"),
    Drill("sys.exit()", "if rank == 1: sys.exit()\nloop()", "error"),
    Drill("stop in allreduce", "loop(10_000_000)", "interrupt", after=1.0),
    Drill("stop while one sleeps", "if rank == 1: time.sleep(60)\nloop()", "interrupt", after=1.0),
    Drill("stop in fit", "train()", "interrupt", after=4.0),
    Drill(
        "stop in C code",
        "if rank == 1: hashlib.pbkdf2_hmac('sha512', b'x', b'y', 200_000_000)\nloop()",
        "stuck",
        "rank 1 did not listen",
        after=1.0,
    ),
    Drill("SIGKILL of rank 1 in fit", "train(at=3, act=kill if rank == 1 else int)", "death"),
    Drill("SIGKILL of rank 0 in fit", "train(at=3, act=kill if rank == 0 else int)", "death"),
    Drill("os._exit(3)", "if rank == 1: os._exit(3)\nloop()", "death", "exit code 3"),
    Drill("segmentation fault", "if rank == 1: ctypes.string_at(0)\nloop()", "death", "SIGSEGV"),
    Drill(
        "allreduce on one rank only",
        "if rank == 0: collective.barrier()",
        "stall",
        "rank 0 waits in barrier",
    ),
    Drill(
        "uneven batches",
        "loop(until=118 if rank == 1 else None)",
        "stall",
        "rank 1 ended the cell",
    ),
    Drill(
        "100 MB of stderr",
        "if rank == 1:\n    for _ in range(1000): sys.stderr.write(('x' * 99 + '\\n') * 1000)",
        "fine",
    ),
    Drill("10,000 equal lines", "for line in range(10_000): print('line', line)", "fine"),
    Drill("hvd deleted", "import horovod.tensorflow as hvd\ndel hvd\nloop(10)", "fine"),
)
