"""Checkpoints of an elastic training: the same whichever ranks live, written by the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.train import checkpoint_files
from eai_notebook.train.checkpoint import Checkpoint, describe_variables, own_values
from eai_notebook.train.checkpoint_files import Snapshot

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


class ElasticCheckpoint:
    """Writes checkpoints and goes on from the newest, as `Checkpoint` does with its files.

    Any number of ranks goes on at the very next step, if there are as many virtual ranks. Plain
    `fit` reads the files, too, and begins their epoch again.
    """

    def __init__(self, plain: Checkpoint | None, model: keras.Model, virtual: int) -> None:
        self._plain, self._model, self._virtual = plain, model, virtual
        self._saved = 0

    @classmethod
    def of(
        cls, given: str | os.PathLike[str] | Checkpoint | None, model: keras.Model, virtual: int
    ) -> ElasticCheckpoint:
        """Return what `fit`'s ``checkpoint`` asks for."""
        return cls(None if given is None else Checkpoint.of(given, None), model, virtual)

    def restore(self) -> dict[str, Any] | None:
        """Give all ranks the newest checkpoint; return its ``epoch``, ``step`` and ``seeds``.

        Raises:
            EaiError: It is of another number of virtual ranks, or of another model.
        """
        if self._plain is None:
            return None
        self._plain.set_model(self._model)
        found = self._plain.find_newest()
        if found is None:
            return None
        elastic = found.about.get("elastic")
        virtual = found.about["ranks"] if elastic is None else elastic["virtual_ranks"]
        step = found.about["step"] if elastic else 0
        if virtual != self._virtual and step:
            raise EaiError(
                f"the checkpoint in {self._plain.folder} is within an epoch of {virtual} virtual "
                f"ranks, and there are {self._virtual}",
                f"give virtual_ranks={virtual}",
                code="checkpoint-virtual-ranks",
            )
        self._plain.restore_state(found)
        self._saved = step
        seeds = elastic["seeds"] if elastic else np.ravel(found.arrays["seeds"][0]).tolist()
        return {"epoch": found.about["epoch"], "step": step, "seeds": seeds}

    def after_step(
        self, epoch: int, done: int, steps: int, seeds: Sequence[int], rank: int
    ) -> None:
        """Write after `done` of `steps` steps of an epoch, if it is time to."""
        every = None if self._plain is None else self._plain.every_steps
        if every is not None and done - self._saved >= every and done < steps:
            self._saved = done
            self._write(epoch, done, steps, seeds, rank)

    def after_epoch(self, epoch: int, steps: int, seeds: Sequence[int], rank: int) -> None:
        """Write what the next epoch begins with."""
        self._saved = 0
        self._write(epoch + 1, 0, steps, seeds, rank)

    def save_now(self, epoch: int, done: int, steps: int, seeds: Sequence[int], rank: int) -> None:
        """Write after `done` steps of an epoch, although it is not time to."""
        at = (epoch + 1, 0) if done == steps else (epoch, done)
        if self._model.optimizer.built:
            self._write(*at, steps, seeds, rank)

    def _write(self, epoch: int, step: int, steps: int, seeds: Sequence[int], rank: int) -> None:
        if self._plain is None or rank != 0:
            return
        model = self._model
        about = {
            "epoch": epoch,
            "step": step,
            "steps": steps,
            "data_epoch": None,
            "ranks": self._virtual,
            "identities": None,
            "memory": [],
            "shards": None,
            "weights": describe_variables(model.weights),
            "optimizer": describe_variables(model.optimizer.variables),
            "build": keras.saving.serialize_keras_object(model.get_build_config()),
            "elastic": {"virtual_ranks": self._virtual, "seeds": [int(seed) for seed in seeds]},
        }
        arrays = {
            "weights": [own_values(variable) for variable in model.weights],
            "optimizer": [own_values(variable) for variable in model.optimizer.variables],
            "seeds": [np.tile(np.asarray(seeds, np.int64), (self._virtual, 1))],
            "memory": [],
        }
        number = int(model.optimizer.iterations)
        try:
            checkpoint_files.write(
                self._plain.folder, number, Snapshot(arrays, about), self._plain.keep
            )
        except OSError as error:
            raise EaiError(
                f"the checkpoint cannot be written: {error}",
                "make room, or give another folder; the checkpoints before it are untouched",
                code="checkpoint-not-written",
            ) from error
