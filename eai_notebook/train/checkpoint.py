"""`Checkpoint`: save and resume training; written by rank 0.

What belongs to a training: weights, the optimizer's variables, the state of every seed on
every rank, what int8 still owes, and where in the data it was. Of a table that is spread
over the ranks, each rank writes and reads its own part.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.errors import EaiError, TrainingStopped
from eai_notebook.telemetry import stop_request
from eai_notebook.train import checkpoint_files, rank_consistency
from eai_notebook.train.checkpoint_files import Snapshot
from eai_notebook.train.exchange.wire_state import Wire
from eai_notebook.train.held_optimizers import optimizers
from eai_notebook.train.seeds import seed_states
from eai_notebook.train.sharded import shard_checkpoint
from eai_notebook.train.sharded.sharded_variables import copies, parts, shard_of
from eai_notebook.train.stop_agreement import stop_agreement

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Write checkpoints to `folder`, and go on from the newest one that is there.

    Give it to `fit` as ``checkpoint=`` or to `callbacks`, on all ranks alike. Rank 0 alone
    reads and writes; the others get their state from it. At the start it says on one line
    where it goes on, with epochs counted as Keras shows them and the steps made in it.

    Within an epoch it goes on at the very next batch. `eai_notebook.io` data begins there, and
    reads nothing that came before, if files and options are the same. Of other data whose
    ``epoch`` can be set, and gives the same batches again, those before are read and thrown
    away. With any other, or another number of ranks, that epoch begins again, and it says so.
    The state of callbacks is not kept, and the metrics of an epoch that was gone on with are
    those of its rest.

    When its job is about to end (a time limit, preemption, `Session.stop_training`), the training ends
    its step, writes, and raises `TrainingStopped` on all ranks. Data that cannot go on within an epoch
    goes back to the last epoch's end, if this training has reached one.

    Args:
        folder: Where the files are; one training a folder.
        every_steps: Write after so many steps of an epoch, too, not at its end only.
        keep: How many files stay.
        data: The training data, where it can go on within an epoch; `fit` fills it in.

    Raises:
        EaiError: `every_steps` or `keep` below 1. When training begins: a checkpoint of
            another model, or none that can be read. While training: no room for a file.

    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every_steps: int | None = None,
        keep: int = 3,
        *,
        data: Any = None,
    ) -> None:
        super().__init__()
        for name, value in (("every_steps", every_steps), ("keep", keep)):
            if value is not None and value < 1:
                raise EaiError(
                    f"{name} is {value!r}",
                    "give a whole number of at least 1",
                    code="option-invalid",
                )
        self.folder = Path(folder).expanduser()
        self.every_steps = every_steps
        self.keep = keep
        self.data = data
        self._epoch = 0
        self._saved = 0
        self._skip = 0
        self._goes_to = False
        self._data_epoch: int | None = None
        self._first_step = 0
        self._has_written = False
        self._stop = stop_agreement()

    @classmethod
    def of(cls, checkpoint: str | os.PathLike[str] | Checkpoint, data: Any) -> Checkpoint:
        """Return the callback that `fit`'s ``checkpoint`` asks for, to go on within `data`."""
        callback = checkpoint if isinstance(checkpoint, Checkpoint) else cls(checkpoint)
        callback.data = data
        return callback

    # ------------------------------------------------------------------ going on

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take over the newest checkpoint, if there is one."""
        self._skip = 0
        self._has_written, self._stop = False, stop_agreement()
        several = len(optimizers(self.model))
        if several > 1:
            raise EaiError(
                f"a checkpoint holds the state of one optimizer, and the model has {several}",
                "save such a model with model.save_weights, or compile it with one optimizer",
                code="checkpoint-optimizers",
            )
        found = self.find_newest()
        if found is None:
            return
        about = found.about
        self.restore_state(found)
        self.model._initial_epoch = about["epoch"]  # noqa: SLF001 -- as Keras's own backup does
        again = about["step"] > 0 and not self._can_skip(about)
        self._skip = 0 if again else about["step"]
        self._goes_to = bool(about.get("identities"))
        if about["data_epoch"] is not None and hasattr(self.data, "epoch"):
            self.data.epoch = about["data_epoch"]
        if about["epoch"] >= self.params["epochs"]:
            _say(f"all {self.params['epochs']} epochs are in {self.folder}: nothing to train")
            return
        _say(f"resuming from epoch {about['epoch'] + 1}, step {about['step']}")
        if again:
            _say(f"the data cannot go on within an epoch: epoch {about['epoch'] + 1} begins again")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note where the data is, and begin after the steps that were made before."""
        self.model._initial_epoch = None  # noqa: SLF001 -- the next fit begins at its beginning
        self._epoch, self._saved = epoch, self._skip
        self._first_step = self._skip
        self._data_epoch = getattr(self.data, "epoch", None)
        if self._skip:
            if self._goes_to:
                self.data.go_to(self.data.position(self._data_epoch, self._skip))
            # (Keras counts steps from 0 in every epoch: those that were made must pass.)
            self.model.train_function = _Skipping(self.model, self._skip, read=not self._goes_to)
            self._skip = 0

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Let the next fit begin at its own first epoch."""
        self.model._initial_epoch = None  # noqa: SLF001 -- there may have been no epoch

    def find_newest(self) -> Snapshot | None:
        """Return rank 0's newest checkpoint; on the others without the large arrays."""
        found, problem = None, None
        if collective.rank() == 0:
            try:
                found = checkpoint_files.newest(self.folder)
            except EaiError as error:
                problem = error.what, error.remedy
        small = None
        if found is not None:
            for_all = {k: v for k, v in found.arrays.items() if k in ("seeds", "memory")}
            small = for_all, found.about
        small, problem = collective.broadcast_object((small, problem))
        if problem is not None:
            raise EaiError(*problem, code="checkpoint-damaged")
        if collective.rank() == 0 or small is None:
            return found
        return Snapshot(*small)

    def restore_state(self, found: Snapshot) -> None:
        """Give every rank the checkpoint's state."""
        model, about = self.model, found.about
        if not model.built:
            checkpoint_files.check_shapes(self.folder, about["build"])
            model.build_from_config(about["build"])
        if not model.built:
            raise EaiError(
                "the model has no weights yet that a checkpoint could be loaded into",
                "build it before, with model.build(shape) or model(batch)",
                code="model-not-built",
            )
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        kinds = {"weights": model.weights, "optimizer": model.optimizer.variables}
        for kind, variables in kinds.items():
            _check_same(self.folder, about[kind], variables)
            for variable, values in zip(variables, found.arrays.get(kind, []), strict=False):
                if shard_of(variable) is not None:
                    continue
                # NumPy does not know the name of formats such as bfloat16, only their bits.
                bits = (
                    values.view(np.asarray(variable).dtype) if values.dtype.kind == "V" else values
                )
                variable.assign(bits)
        everything = [*model.weights, *model.optimizer.variables]
        collective.broadcast_variables(copies(everything))
        if about.get("shards"):
            shard_checkpoint.read(self.folder, about["shards"], parts(everything))
        _set_seeds(seed_states(model), found.arrays["seeds"][0])
        # Files of earlier versions have none. What a rank owes is the same on all of them.
        _memory(model).load(
            dict(zip(about.get("memory", []), found.arrays.get("memory", []), strict=True))
        )

    def _can_skip(self, about: dict[str, Any]) -> bool:
        """Return whether all ranks would get the batches of `about`'s epoch again."""
        can = (
            about["data_epoch"] is not None
            and hasattr(self.data, "epoch")
            and self._whole_epochs()
            and about["ranks"] == collective.size()
            and about["steps"] == self.params.get("steps")
            and self.model.steps_per_execution == 1
            and self._is_same(about)
        )
        return not rank_consistency.any_rank(not can)

    def _is_same(self, about: dict[str, Any]) -> bool:
        """Return whether this rank's data is what it was, as far as is known."""
        identities = about.get("identities")
        if not identities or about["ranks"] != collective.size():
            return True
        can = hasattr(self.data, "position")
        return can and _identity(self.data) == identities[collective.rank()]

    def _whole_epochs(self) -> bool:
        """Return whether an epoch of the training is one of the data."""
        steps = getattr(self.data, "steps_per_epoch", None)
        return steps is not None and steps == self.params.get("steps")

    # ------------------------------------------------------------------- writing

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Write before step `batch` of the epoch, if enough were made since, or to stop there.

        Not at a step's end: Keras runs callbacks beside the next step only if none has a
        hook there.
        """
        if batch < self._first_step:
            return  # a step that was made before
        stops = self._stop.is_due()
        enough = self.every_steps is not None and batch - self._saved >= self.every_steps
        if enough or (stops and (self._goes_on_within() or not self._has_written)):
            self._saved = batch
            self._save(self._epoch, batch, self._data_epoch)
        if stops:
            self._raise_stopped(f"epoch {self._epoch + 1}, step {batch}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Write what the next epoch begins with; stop there if that was asked for."""
        following = None if self._data_epoch is None else self._data_epoch + 1
        self._save(epoch + 1, 0, following)
        if epoch + 1 < self.params["epochs"] and self._stop.is_wanted():
            self._raise_stopped(f"the end of epoch {epoch + 1}")

    def _raise_stopped(self, where: str) -> NoReturn:
        stop_request.ask(on=False)
        raise TrainingStopped(
            f"the training was asked to stop, at {where}; its checkpoint is in {self.folder}",
            "run the cell again to go on from it",
            code="training-stopped",
        )

    def _goes_on_within(self) -> bool:
        """Return whether a training that stops now could go on at the same batch."""
        known = self._data_epoch is not None and self._whole_epochs()
        return known and self.model.steps_per_execution == 1

    def _save(self, epoch: int, step: int, data_epoch: int | None) -> None:
        """Write the state after `step` steps of `epoch`; all ranks must call it."""
        model = self.model
        self._has_written = True
        # Between epochs the ranks count batch statistics each on its own; one file has one.
        rank_consistency.average_statistics(model)
        seeds = _gather_seeds(seed_states(model))
        _memory(model).settle()
        memory = _memory(model).state()
        identities = _gather_identities(self.data)
        number = int(model.optimizer.iterations)
        spread = parts([*model.weights, *model.optimizer.variables])
        shards = shard_checkpoint.write(self.folder, number, spread)
        problem = None
        if collective.rank() == 0:
            state = Snapshot(
                {
                    "weights": [own_values(v) for v in model.weights],
                    "optimizer": [own_values(v) for v in model.optimizer.variables],
                    "seeds": [seeds],
                    "memory": list(memory.values()),
                },
                {
                    "epoch": epoch,
                    "step": step,
                    "steps": self.params.get("steps"),
                    "data_epoch": data_epoch if self._whole_epochs() else None,
                    "ranks": collective.size(),
                    "identities": identities,
                    "memory": list(memory),
                    "shards": shards,
                    "weights": describe_variables(model.weights),
                    "optimizer": describe_variables(model.optimizer.variables),
                    "build": keras.saving.serialize_keras_object(model.get_build_config()),
                },
            )
            try:
                checkpoint_files.write(self.folder, number, state, self.keep)
                shard_checkpoint.tidy(self.folder, checkpoint_files.numbers(self.folder))
            except OSError as error:
                problem = str(error)
        problem = collective.broadcast_object(problem)
        if problem is not None:
            raise EaiError(
                f"the checkpoint cannot be written: {problem}",
                "make room, or give another folder; the checkpoints before it are untouched",
                code="write-failed",
            )


class _Skipping:
    """Stands in for a model's train function in some steps, and trains in none of them.

    It takes their batches, unless the data begins after them.
    """

    def __init__(self, model: keras.Model, steps: int, *, read: bool) -> None:
        self._model = model
        self._usual = model.train_function
        self._left = steps
        self._read = read

    def __call__(self, iterator: Any) -> dict[str, Any]:
        """Pass over a step, and step aside after the last one to pass over."""
        self._left -= 1
        taken = False
        try:
            if self._read:
                next(iterator)
            taken = True
        finally:
            if not taken or self._left == 0:
                self._model.train_function = self._usual
        return {}


def _memory(model: keras.Model) -> Wire:
    """Return what the model's exchanges remember; without a ring there may be none."""
    memory: Wire = getattr(model.optimizer, "exchange_memory", None) or Wire()
    return memory


def _identity(data: Any) -> str:
    """Return what identifies data that would give other batches."""
    found: str = data.position(0, 0)["identity"]
    return found


def _gather_identities(data: Any) -> list[str] | None:
    """Return what identifies each rank's data; None where that of one cannot begin within an epoch."""
    mine = int(_identity(data), 16) if hasattr(data, "go_to") else 0
    table = collective.gather_numpy(np.array([mine], np.uint64).view(np.int64))
    found = [f"{number:016x}" for number in table.view(np.uint64).ravel().tolist()]
    return None if f"{0:016x}" in found else found


def _gather_seeds(seeds: Sequence[keras.Variable]) -> np.ndarray:
    """Return all ranks' seeds, int64 of shape [ranks, numbers]."""
    mine = [np.asarray(variable).astype(np.int64).ravel() for variable in seeds]
    return collective.gather_numpy(np.concatenate([*mine, np.zeros(0, np.int64)]))


def _set_seeds(seeds: Sequence[keras.Variable], table: np.ndarray) -> None:
    """Take this rank's row of `table`; seeds of another number of ranks are left alone."""
    sizes = [int(np.prod(variable.shape)) for variable in seeds]
    if table.shape != (collective.size(), sum(sizes)):
        return
    parts = np.split(table[collective.rank()], np.cumsum(sizes)[:-1])
    for variable, values in zip(seeds, parts, strict=False):
        variable.assign(values.astype(str(variable.dtype)).reshape(variable.shape))


def describe_variables(variables: Sequence[keras.Variable]) -> list[list[Any]]:
    """Return names, shapes and dtypes; of a part, the shape of the whole table."""
    shards = [shard_of(v) for v in variables]
    lengths = [
        list(v.shape[:1]) if shard is None else [shard.rows]
        for v, shard in zip(variables, shards, strict=True)
    ]
    return [
        [v.path, [*length, *v.shape[1:]], str(v.dtype)]
        for v, length in zip(variables, lengths, strict=True)
    ]


def own_values(variable: keras.Variable) -> np.ndarray:
    """Return what rank 0 writes of a variable: nothing, where each rank has a part."""
    return np.asarray(variable) if shard_of(variable) is None else np.zeros(0, np.float32)


def _check_same(folder: Path, theirs: list[list[Any]], variables: Sequence[keras.Variable]) -> None:
    """Raise unless the checkpoint's variables have the shapes and dtypes of `variables`."""
    remedy = "give an empty folder, or the model it was written with"
    ours = describe_variables(variables)
    for (path, *has), (name, *wants) in zip(theirs, ours, strict=False):
        if has != wants:
            raise EaiError(
                f"the checkpoint in {folder} has `{path}` as {_kind(has)}, but the model has "
                f"`{name}` as {_kind(wants)}",
                remedy,
                code="checkpoint-other-model",
            )
    if len(theirs) != len(ours):
        raise EaiError(
            f"the checkpoint in {folder} has {len(theirs)} variables where the model and its "
            f"optimizer have {len(ours)}",
            remedy,
            code="checkpoint-other-model",
        )


def _kind(described: list[Any]) -> str:
    shape, dtype = described
    return f"{dtype} {shape}"


def _say(line: str) -> None:
    """Print a line once, on rank 0."""
    if collective.rank() == 0:
        say(line)
