"""A rank that trains elastically, and is killed, leaves, fails or grows as its schedule says.

Arguments: the schedule, a list of [step, rank, what] as JSON (what: "kill", "leave", "fail",
"start 3", that is start a newcomer with this number, "wait" until it asks, or is ready), more
settings as JSON, and a folder for what each rank has seen.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
from mpi4py import MPI

import eai_notebook as eai
from eai_notebook.collective import membership, newcomers, survivors
from eai_notebook.errors import EaiError

RANK = survivors.number()
SCHEDULE = {(step, what) for step, rank, what in json.loads(sys.argv[1]) if rank == RANK}
SETTINGS = json.loads(sys.argv[2])
FOLDER = Path(sys.argv[3])
ROWS = np.random.default_rng(0).normal(size=(203, 4)).astype("float32")
LABELS = (ROWS[:, :1] * ROWS[:, 1:2] > 0).astype("float32")


class Watch(keras.callbacks.Callback):
    """Notes the loss of every step, and does what the schedule says before a step ends."""

    def __init__(self) -> None:
        super().__init__()
        self.file = (FOLDER / f"{RANK}.jsonl").open("w")
        self.step = 0

    def on_train_begin(self, logs: object = None) -> None:
        """Count on from the step that the training is at."""
        self.step = int(self.model.optimizer.iterations)

    def say(self, **what: object) -> None:
        """Write a line, at once."""
        self.file.write(json.dumps({"at": time.time(), **what}) + "\n")
        self.file.flush()

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Die, if it is time to."""
        self.model.reset_metrics()
        if (self.step, "kill") in SCHEDULE:
            self.say(kill=self.step)
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.step, "leave") in SCHEDULE:
            self.say(leave=self.step)
            os.kill(os.getpid(), signal.SIGTERM)
        if (self.step, "fail") in SCHEDULE:
            raise ValueError("of my own")
        for step, what in SCHEDULE:
            if step == self.step and what.startswith("start"):
                command = json.loads(os.environ["EAI_TEST_COMMAND"])
                newcomers.start(int(what.split()[1]), command)
            if step == self.step and what.startswith("wait"):
                assert newcomers.wait_for_request()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Note the loss."""
        self.say(step=self.step, loss=logs["loss"])
        self.step += 1


def model_of() -> keras.Model:
    """Return a model with all that could differ between ranks: statistics, and units dropped out."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(80, activation="relu"),  # more weights than travel with the numbers
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "binary_crossentropy", metrics=["AUC"])
    return model


def main() -> None:
    """Train, and note what it came to."""
    if newcomers.is_one():
        membership.form_alone(RANK)
    watch = Watch()
    options = {"batch_size": 8, "epochs": 3, "verbose": 0, "virtual_ranks": 4, **SETTINGS}
    held = ROWS[:50], LABELS[:50]
    try:
        model = model_of()
        history = eai.fit(
            model,
            *(ROWS, LABELS),
            elastic=True,
            validation_data=held,
            callbacks=[watch],
            **options,
        ).history
        usual = eai.evaluate(model, (ROWS[:50], LABELS[:50]), verbose=0) if eai.size() > 1 else {}
        watch.say(history=history, left=eai.size(), usual=usual)
    except EaiError as error:
        watch.say(code=error.code, what=error.what)
    except ValueError as error:
        watch.say(code="own", what=str(error))


main()
sys.stdout.flush()
if "start" in sys.argv[1]:
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
    with contextlib.suppress(MPI.Exception):
        survivors.living().comm.Barrier()
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)  # (Where rank 0 is dead, MPI's own end would wait for it.)
