"""A rank of `elastic.py`: trains elastically, does what its schedule says, notes what it has seen.

Arguments: the schedule, a list of [step, rank, what, seconds] as JSON, and a folder. To "join" is to
start a newcomer, with its number for the seconds; a rank waits until the newcomer "asks" and is
"ready".
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from mpi4py import MPI

import eai_notebook as eai
from eai_notebook.collective import membership, newcomers, survivors
from eai_notebook.elastic.virtual_data import SharedRows

VIRTUAL, BATCH, EPOCHS, ROWS = 4, 8, 4, 203
RANK = survivors.number()


class Witness(keras.callbacks.Callback):
    """Notes losses and who ran which virtual ranks, and has this rank die, leave or be slow."""

    def __init__(self, schedule: list[Any], folder: Path) -> None:
        super().__init__()
        self._todo = {(step, what): s for step, rank, what, s in schedule if rank == RANK}
        self._file = (folder / f"{RANK}.jsonl").open("w")
        self.step = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Count on from the step that a newcomer comes to."""
        self.step = int(self.model.optimizer.iterations)

    def note(self, **what: Any) -> None:
        """Write a line, at once."""
        self._file.write(json.dumps({"at": time.time(), **what}) + "\n")
        self._file.flush()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Do what is due."""
        self.model.reset_metrics()
        self.note(begins=self.step)
        for (step, what), number in self._todo.items():
            if step == self.step and what == "join":
                newcomers.start(int(number), json.loads(os.environ["EAI_RANK_COMMAND"]))
            if step == self.step and what in ("asks", "ready"):
                newcomers.wait_for_request()
        if (seconds := self._todo.get((self.step, "slow"))) is not None:
            time.sleep(seconds)
        if (self.step, "leave") in self._todo:
            os.kill(os.getpid(), signal.SIGTERM)
        if (seconds := self._todo.get((self.step, "kill"))) is not None:
            threading.Timer(seconds, self._die).start()

    def _die(self) -> None:
        self.note(kill=self.step)
        os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the loss."""
        self.note(step=self.step, loss=logs["loss"])
        self.step += 1


def main() -> None:
    """Train once."""
    if newcomers.is_one():
        membership.form_alone(RANK)
    witness = Witness(json.loads(sys.argv[1]), Path(sys.argv[2]))
    begin = SharedRows.begin

    def noted(self: SharedRows, block: range, epoch: int) -> None:
        begin(self, block, epoch)
        witness.note(attempt=witness.step, block=list(block))

    SharedRows.begin = noted  # type: ignore[method-assign]
    keras.utils.set_random_seed(3)
    rows = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
    labels = (rows[:, :1] * rows[:, 1:2] > 0).astype("float32")
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "binary_crossentropy")
    options = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0, "virtual_ranks": VIRTUAL}
    eai.fit(model, rows, labels, elastic=True, callbacks=[witness], **options)
    witness.note(done=True)


main()
if "join" in sys.argv[1]:  # the end of a newcomer that MPI has not seen end would be that of all
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
    living = survivors.living()
    with contextlib.suppress(MPI.Exception):
        if living is not None:
            living.comm.Barrier()
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)  # (Where rank 0 is dead, MPI's own end would wait for it.)
