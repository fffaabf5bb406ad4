"""A rank of `elastic.py`: trains elastically, does what its schedule says, notes what it has seen.

Arguments: the schedule, a list of [step, rank, what, seconds] as JSON, and a folder. To "join" is to
start a newcomer, with its number for the seconds; a rank waits until the newcomer "asks" and is
"ready". A rank whose host is to be lost asks for it and waits; with EAI_BENCH_CONTROLLER it
outlives other hosts, as the ranks of a group do. Two more arguments are a folder for checkpoints, and
the steps between them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

faulthandler.register(signal.SIGUSR2)  # where all threads are, if it hangs
FOLDER = Path(sys.argv[2])
if CONTROLLER := os.environ.get("EAI_BENCH_CONTROLLER"):
    output = (FOLDER / f"output-{os.getpid()}").open("wb")  # that to mpirun ends with mpirun
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import eai_notebook as eai  # noqa: E402
from eai_notebook.cluster import orphaned_rank  # noqa: E402
from eai_notebook.collective import membership, newcomers, peer_sockets, survivors  # noqa: E402
from eai_notebook.elastic.fault_tolerant_ring import FaultTolerantRing  # noqa: E402
from eai_notebook.elastic.virtual_data import SharedRows  # noqa: E402
from eai_notebook.errors import EaiError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.elastic.contribution import Contribution

if CONTROLLER:
    orphaned_rank.watch(os.getppid(), CONTROLLER)
    survivors.end_where_cut_off(partial(orphaned_rank.is_reachable, CONTROLLER))
    peer_sockets.give_up_silent_peers([urlsplit(CONTROLLER).hostname or ""])

VIRTUAL, BATCH, EPOCHS, ROWS = 4, 8, 4, 203
RANK = survivors.number()


class Witness(keras.callbacks.Callback):
    """Notes losses and who ran which virtual ranks, and has this rank die, leave or be slow."""

    def __init__(self, schedule: list[Any]) -> None:
        super().__init__()
        self._todo = {(step, what): s for step, rank, what, s in schedule if rank == RANK}
        self._file = (FOLDER / f"{RANK}.jsonl").open("w")
        self.step = 0
        self.members: tuple[int, ...] = ()
        (FOLDER / f"pid-{RANK}").write_text(f"{os.getpid()}\n")

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
            if step == self.step and what.startswith("host "):
                (FOLDER / f"lose-{RANK}").touch()
                while not (FOLDER / f"lost-{RANK}").exists():
                    time.sleep(0.002)
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
        self.note(step=self.step, loss=logs["loss"], members=self.members)
        self.step += 1


def note_attempts_and_members(witness: Witness) -> None:
    """Have `witness` note each attempt at a step, and know who has made it."""
    begin, exchange = SharedRows.begin, FaultTolerantRing.exchange

    def noted(self: SharedRows, block: range, epoch: int) -> None:
        begin(self, block, epoch)
        witness.note(attempt=witness.step, block=list(block))

    def counted(self: FaultTolerantRing, make: Callable[[range], Contribution]) -> Contribution:
        total = exchange(self, make)
        witness.members = self.members
        return total

    SharedRows.begin = noted  # type: ignore[method-assign]
    FaultTolerantRing.exchange = counted  # type: ignore[method-assign]


def main() -> None:
    """Train once."""
    if newcomers.is_one():
        membership.form_alone(RANK)
    witness = Witness(json.loads(sys.argv[1]))
    note_attempts_and_members(witness)
    keras.utils.set_random_seed(3)
    rows = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
    labels = (rows[:, :1] * rows[:, 1:2] > 0).astype("float32")
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(80, activation="relu"),  # more weights than travel with the numbers
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "binary_crossentropy")
    options: dict[str, Any] = {
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "verbose": 0,
        "virtual_ranks": VIRTUAL,
    }
    if sys.argv[3:]:
        options["checkpoint"] = eai.Checkpoint(sys.argv[3], every_steps=int(sys.argv[4]))
    try:
        eai.fit(model, rows, labels, elastic=True, callbacks=[witness], **options)
    except EaiError as error:
        witness.note(code=error.code)
    else:
        witness.note(done=True)


main()
if "join" in sys.argv[1]:  # the end of a newcomer that MPI has not seen end would be that of all
    from mpi4py import MPI

    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
    living = survivors.living()
    with contextlib.suppress(MPI.Exception):
        if living is not None:
            living.comm.Barrier()
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)  # (Where rank 0 is dead, MPI's own end would wait for it.)
