"""`fit` for ranks that come and go: Keras's loop around steps of virtual ranks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.collective import membership, newcomers, survivors
from eai_notebook.elastic import handover, trainings, virtual_step
from eai_notebook.elastic.contribution import Contribution
from eai_notebook.elastic.elastic_callbacks import on_first_rank
from eai_notebook.elastic.elastic_checkpoint import ElasticCheckpoint
from eai_notebook.elastic.gradient_sum import bytes_of
from eai_notebook.elastic.lone_ring import LoneRing
from eai_notebook.elastic.member_changes import TooFewRanksError
from eai_notebook.elastic.virtual_data import virtual_data
from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import GONE
from eai_notebook.telemetry import messages
from eai_notebook.train import lone_fits
from eai_notebook.train.layer_state import check_states
from eai_notebook.train.measured_step import build_whole
from eai_notebook.train.recording import graph_timestamps, step_clock
from eai_notebook.train.recording.step_rows import HEAD
from eai_notebook.train.seeds import seed_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eai_notebook.elastic.lone_ring import Ring
    from eai_notebook.elastic.member_changes import Change, State
    from eai_notebook.elastic.virtual_data import VirtualData
    from eai_notebook.train.checkpoint import Checkpoint
    from eai_notebook.train.fit_data import Batches

LEAST = "EAI_LEAST_RANKS"
"""Where a group notes the least ranks that it is to train with."""


@dataclass
class Settings:
    """The arguments of `fit` besides model and training data.

    Attributes:
        epochs: How often to go through the data.
        initial_epoch: The epoch to begin with.
        virtual_ranks: How many virtual ranks there are; as many as ranks by default.
        callbacks: The user's own.
        checkpoint: Where to keep checkpoints, and go on from.
        shuffle: Mix arrays anew in each epoch, within each virtual rank's share.
        verbose: As in ``model.fit``.
        validation: Rows that every rank has whole, or a function as for the training data.
        validation_freq: After how many epochs to validate, or after which.
        steps_per_epoch: Fewer steps than the data has.
        validation_steps: Fewer steps of a validation than the data has.
        name: What the run is called.
    """

    epochs: int = 1
    initial_epoch: int = 0
    virtual_ranks: int | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None
    shuffle: bool = True
    verbose: Any = "auto"
    validation: Batches | None = None
    validation_freq: Any = 1
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    name: str | None = None


def fit(
    model: keras.Model, data: Any, batches: Batches, settings: Settings
) -> keras.callbacks.History:
    """Train `model` on all rows of all virtual ranks, whichever ranks live.

    Args:
        model: Compiled, the same on all ranks.
        data: What was given as training data; a function opens that of a virtual rank.
        batches: The same, where it is arrays.
        settings: All the rest.

    Returns:
        Keras's history, the same on all ranks.

    Raises:
        EaiError: Model or data are such that another rank could not go on with them, or too few
            ranks are left.
    """
    number = trainings.begin()
    joins = newcomers.is_one()
    known = _facts(number) if joins else {}
    virtual = known.get("virtual") or settings.virtual_ranks or max(1, collective.size())
    virtual_step.check_model(model)
    shares = virtual_data(data, batches, virtual, shuffle=settings.shuffle)
    held = None
    if settings.validation is not None:
        held = virtual_data(settings.validation.x, settings.validation, virtual, shuffle=False)
    training = _Training(model, shares, held, settings, virtual)
    if joins:
        training.join(known)
    else:
        training.begin(number)
    with step_clock.closing(), _leaving_on_notice(training.ring), newcomers.welcome():
        try:
            training.run()
            training.ring.close()
        except TooFewRanksError:
            training.save_now()
            raise
        except BaseException:
            training.ring.fail()
            raise
    training.form_ring_of_cell()
    history: keras.callbacks.History = model.history
    return history


@dataclass
class _Position:
    """Where the training is."""

    epoch: int
    step: int = 0


class _Training:
    """One training, from its beginning or a checkpoint on."""

    def __init__(
        self,
        model: keras.Model,
        shares: VirtualData,
        held: VirtualData | None,
        settings: Settings,
        virtual: int,
    ) -> None:
        self._model, self._shares, self._held = model, shares, held
        self._settings = settings
        self._counts = _counts(shares, virtual, settings.steps_per_epoch)
        self._steps = max(self._counts)
        self._at = _Position(settings.initial_epoch)
        first = shares.batch(0, 0, 0)
        _build(model, first)
        self._first = first
        self._checkpoint = ElasticCheckpoint.of(settings.checkpoint, model, virtual)
        self._base: list[int] = []
        self._changes: list[dict[str, Any]] = []
        self._taken: dict[str, Any] = {}
        self.ring: Ring = LoneRing(virtual)

    def begin(self, number: int) -> None:
        """Agree with all ranks on the model's state, and form their ring.

        Args:
            number: Which elastic training of its cell this is.
        """
        model = self._model
        base = [int(number) for state in seed_states(model) for number in np.ravel(state)]
        base = collective.broadcast_object(base)
        check_states(model)
        found = self._checkpoint.restore()
        if found is not None:
            self._at, base = _Position(found["epoch"], found["step"]), found["seeds"]
        else:
            _share_from_rank_0(model)
        self._base = base
        self._done = self._at.epoch, self._at.step
        self.ring = _ring(self.ring.virtual, self._note_change)
        self._step = virtual_step.VirtualStep(model, base)
        self._step.prepare(self._first)
        self.ring.facts = {
            "training": number,
            "counts": self._counts,
            "variables": handover.describe(model),
        }

    def join(self, facts: dict[str, Any]) -> None:
        """Come into the ring of ranks that train already, and take over their state.

        All that takes long is done before: opening the data, building and tracing.

        Raises:
            EaiError: This rank's model or data are others than theirs, or it cannot come in.
        """
        from eai_notebook.elastic.fault_tolerant_ring import FaultTolerantRing
        from eai_notebook.elastic.member_changes import Change

        model = self._model
        handover.check_alike(model, facts["variables"])
        if facts["counts"] != self._counts:
            raise EaiError(
                f"this rank has {self._counts} steps of the virtual ranks, the others "
                f"{facts['counts']}",
                "give every rank the same data",
                code="join-failed",
            )
        self._step = virtual_step.VirtualStep(model, [0 for _ in seed_states(model)])
        self._step.prepare(self._first)
        self._step.rehearse(self._first)
        ring, (found, arrays) = FaultTolerantRing.join()
        handover.take_values(model, arrays)
        self.ring, ring.on_change, ring.facts = ring, self._note_change, facts
        self._taken, self._base, self._changes = found, found["base"], found["changes"]
        self._step.base = self._base
        survivors.adopt(ring.communicator, ring.members)
        self._at = _Position(found["epoch"], found["step"])
        self._done = found["epoch"], found["step"]
        number = found["epoch"] * self._steps + found["step"]
        self._changes.append(_entry(Change((), ring.members, 0.0, (ring.number,)), number))
        messages.emit(messages.RankJoined(ring.number, number))

    def _state(self, epoch: int, step: int) -> State:
        """Return what a newcomer needs to go on with step `step`, which may be an epoch's end."""
        history = self._model.history
        facts = {
            "epoch": epoch,
            "step": step,
            "base": self._base,
            "changes": self._changes,
            "run": self._run,
            "history": {name: list(map(float, v)) for name, v in history.history.items()},
            "epochs": [int(each) for each in history.epoch],
            "callbacks": handover.memory_of(self._callbacks),
        }
        return facts, handover.values_of(self._model)

    def run(self) -> None:
        """Train to the end."""
        model, settings = self._model, self._settings
        ring = self.ring
        shows = settings.verbose != 0 and ring.rank == 0
        self._callbacks = on_first_rank(settings.callbacks, ring)
        callbacks = keras.callbacks.CallbackList(
            self._callbacks,
            add_history=True,
            add_progbar=shows,
            verbose=(2 if settings.verbose == "auto" else settings.verbose) if shows else 0,
            epochs=settings.epochs,
            steps=self._steps,
            model=model,
        )
        model.stop_training = False
        callbacks.on_train_begin()
        lone_fits.note_exchange()
        if self._taken:
            handover.take_memory(self._callbacks, self._taken["callbacks"])
            model.history.history, model.history.epoch = (
                self._taken["history"],
                self._taken["epochs"],
            )
        self._begin_run()
        logs: dict[str, Any] = {}
        for epoch in range(self._at.epoch, settings.epochs):
            first, self._at = (self._at.step if epoch == self._at.epoch else 0), _Position(epoch)
            logs = self._epoch(epoch, first, callbacks)
            if self._stops():
                break
        if isinstance(model.optimizer, keras.optimizers.Optimizer) and settings.epochs > 0:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        self._leave_seeds()
        callbacks.on_train_end(logs)

    def _epoch(
        self, epoch: int, first: int, callbacks: keras.callbacks.CallbackList
    ) -> dict[str, Any]:
        model = self._model
        if not self._taken:
            model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        running = step_clock.current()
        if running is not None:
            running.epoch = epoch
            running.resume()
        logs = self._metrics() if self._taken else {}
        self._taken = {}
        for step in range(first, self._steps):
            self._at.step = step
            callbacks.on_train_batch_begin(step)
            logs = self._one_step(epoch, step)
            callbacks.on_train_batch_end(step, logs)
            if self.ring.end_step():
                self._leave(epoch, step)
            self._at.step = step + 1
            self.ring.let_in(partial(self._state, epoch, step + 1))
            self._checkpoint.after_step(epoch, step + 1, self._steps, self._base, self.ring.rank)
        if self._held is not None and _is_due(epoch, self._settings.validation_freq):
            logs |= self._validated(self._held, callbacks)
        callbacks.on_epoch_end(epoch, logs)
        running = step_clock.current()  # another one, if ranks have gone
        if running is not None:
            running.end_epoch(epoch, logs)
        self._checkpoint.after_epoch(epoch, self._steps, self._base, self.ring.rank)
        return logs

    def _one_step(self, epoch: int, step: int) -> dict[str, Any]:
        number = epoch * self._steps + step
        marks = _Marks()

        def make(block: range) -> Contribution:
            marks.asked = time.time()
            self._shares.begin(block, epoch)
            batches = [
                (virtual, self._shares.batch(virtual, epoch, step))
                for virtual in block
                if step < self._counts[virtual]
            ]
            marks.got, marks.samples = time.time(), sum(_rows_in(batch) for _, batch in batches)
            given = self._step.train(batches, number)
            marks.ready = time.time()
            return given

        total = self.ring.exchange(make)
        marks.reduced = time.time()
        sent = bytes_of(len(total.gradients), self.ring.wire, total.precision)
        marks.bytes = sent * (self.ring.size > 1)
        logs = _plain(self._step.finish(total))
        self._done = epoch, step + 1
        running = step_clock.current()  # another one, if ranks have gone
        if running is not None:
            running.take(marks.row(), logs=logs)
        return logs

    def _metrics(self) -> dict[str, Any]:
        return _plain(self._model.get_metrics_result())

    def _validated(
        self, held: VirtualData, callbacks: keras.callbacks.CallbackList
    ) -> dict[str, Any]:
        """Return the metrics over the validation rows of all virtual ranks."""
        most = self._settings.validation_steps
        before = [np.asarray(variable) for variable in self._model.metrics_variables]
        callbacks.on_test_begin()

        def make(block: range) -> Contribution:
            held.begin(block, 0)
            return self._step.evaluate(
                held.batch(virtual, 0, step)
                for virtual in block
                for step in range(held.count(virtual))[:most]
            )

        self._model.reset_metrics()
        self._step.set_counts(self.ring.exchange(make).numbers)
        found = {f"val_{name}": value for name, value in self._metrics().items()}
        for variable, values in zip(self._model.metrics_variables, before, strict=True):
            variable.assign(values)
        callbacks.on_test_end({name.removeprefix("val_"): v for name, v in found.items()})
        return found

    def save_now(self) -> None:
        """Write a checkpoint of the last step that was made."""
        self._checkpoint.save_now(*self._done, self._steps, self._base, self.ring.rank)

    def _stops(self) -> bool:
        """Return whether a callback of the first live rank wants to stop."""

        def make(_: range) -> Contribution:
            wish = bool(self._model.stop_training) and self.ring.rank == 0
            return Contribution(np.array([float(wish)]))

        self._model.stop_training = bool(self.ring.exchange(make).numbers[0])
        return bool(self._model.stop_training)

    # --------------------------------------------------------------------- the record

    def _begin_run(self) -> None:
        facts = step_clock.facts_of(self._model, self._settings.epochs, self._steps, 0.0)
        facts |= {"wire": np.dtype(self.ring.wire).name, "virtual_ranks": self.ring.virtual}
        facts |= {} if self._settings.name else {"unnamed": True}
        self._facts = facts
        if self._changes:  # this rank has joined
            self._run = self._taken["run"]
            self._begin_part()
            return
        running = step_clock.begin_run(self._settings.name or self._model.name, facts)
        running.epoch = self._at.epoch
        self._run = running.run
        self._recorded = self.ring.members

    def _begin_part(self) -> None:
        """Begin the record of the ranks that train from now on."""
        ring = self.ring
        self._recorded = ring.members
        run = f"{self._run}-{len(self._changes)}"
        position = step_clock.Position(run, ring.members.index(ring.number), ring.size)
        self._facts["wire"] = np.dtype(ring.wire).name
        facts = {**self._facts, "continues": self._run, "membership": list(self._changes)}
        name = self._settings.name or self._model.name
        step_clock.begin_run(name, facts, position=position).epoch = self._at.epoch

    def _note_change(self, change: Change) -> None:
        """Say who has gone or come, end the record of those before, begin one of those now."""
        number = self._at.epoch * self._steps + self._at.step
        ring = self.ring
        self._changes.append(_entry(change, number))
        gone = [at for at, member in enumerate(self._recorded) if member in change.lost]
        step_clock.note(membership=self._changes, **({GONE: gone} if gone else {}))
        step_clock.end_run("done")
        self._begin_part()
        if change.joined:
            survivors.adopt(ring.communicator, ring.members)
        if ring.rank == 0:
            say(describe(change, number, ring.virtual))

    def _leave(self, epoch: int, step: int) -> None:
        """End this process at the end of a step: the others go on without it."""
        say(f"leaving after step {epoch * self._steps + step}")
        step_clock.end_run("done")
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()

    def _leave_seeds(self) -> None:
        """Have whatever draws next draw otherwise than this training has."""
        number = self._settings.epochs * self._steps
        for index, state in enumerate(seed_states(self._model)):
            parts = [*self._base, index, self.ring.virtual, number]
            state.assign(virtual_step.numbers_from(parts, state))

    def form_ring_of_cell(self) -> None:
        """Form the ring of the cell's other exchanges anew, if ranks of it are gone."""
        if self._changes:
            collective.release()
            membership.form(comm=self.ring.communicator, numbers=self.ring.members)


@dataclass
class _Marks:
    """When what of a step was done, in seconds since the epoch."""

    asked: float = np.nan
    got: float = np.nan
    samples: float = np.nan
    ready: float = np.nan
    reduced: float = np.nan
    bytes: float = np.nan

    def row(self) -> np.ndarray:
        """Return it as the step clock takes it; the update ends now."""
        taken = np.full(HEAD + graph_timestamps.WIDTH, np.nan)
        taken[:HEAD] = self.asked, self.got, self.samples
        row = taken[HEAD:]
        row[graph_timestamps.BYTES] = self.bytes
        row[graph_timestamps.READY.start] = self.ready
        row[graph_timestamps.REDUCED.start] = self.reduced
        row[graph_timestamps.APPLIED] = time.time()
        return taken


def _plain(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) for name, value in metrics.items()}


def _entry(change: Change, step: int) -> dict[str, Any]:
    """Return what a run's record holds of a change of the membership before a step."""
    found = {"step": step, "lost": list(change.lost), "left": len(change.members)}
    found["seconds"] = round(change.seconds, 3)
    return found | ({"joined": list(change.joined)} if change.joined else {})


def describe(change: Change, step: int, virtual: int) -> str:
    """Say who has gone or come and what that means.

    Examples:
        >>> from eai_notebook.elastic.member_changes import Change
        >>> describe(Change((2,), (0, 1, 3), 0.1), 1204, 4)
        'rank 2 is gone at step 1204; 3 of 4 ranks go on from step 1204, 4 virtual ranks on 3: expect 2.0 times longer steps'
    """
    live = len(change.members)
    before = live + len(change.lost) - len(change.joined)
    longer = -(-virtual // live) / -(-virtual // before)
    on = f"{virtual} virtual ranks on {live}"
    if change.joined:
        expect = f": expect {1 / longer:.1f} times shorter steps" if longer < 1 else ""
        verb = "joins" if len(change.joined) == 1 else "join"
        return f"{_named(change.joined)} {verb} at step {step}; {on}{expect}"
    verb = "is" if len(change.lost) == 1 else "are"
    gone = f"{_named(change.lost)} {verb} gone at step {step}"
    expect = f": expect {longer:.1f} times longer steps" if longer > 1 else ""
    return f"{gone}; {live} of {before} ranks go on from step {step}, {on}{expect}"


def _named(numbers: Sequence[int]) -> str:
    names = ", ".join(map(str, numbers))
    return f"rank {names}" if len(numbers) == 1 else f"ranks {names}"


def _facts(training: int) -> dict[str, Any]:
    """Ask for the facts of the training that this rank is to join.

    Raises:
        EaiError: It is another one than this, of several in a cell.
    """
    newcomers.request(newcomers.ASKS)
    found = newcomers.facts()
    if found["training"] != training:
        raise EaiError(
            f"the others are in training {found['training']} of this cell, and this rank would "
            f"join training {training}",
            "it joins them when the cell is over; put each training into a cell of its own",
            code="join-failed",
        )
    return found


def _ring(virtual: int, on_change: Callable[[Change], None]) -> Ring:
    """Return the ring of this training.

    Raises:
        EaiError: The ranks' MPI would end all of them when one dies.
    """
    comm, numbers = membership.communicator(), membership.members()
    if survivors.is_fault_tolerant() and comm is None:
        from mpi4py import MPI

        comm, numbers = MPI.COMM_SELF, (survivors.number(),)
    if comm is None or (comm.size == 1 and not survivors.is_fault_tolerant()):
        return LoneRing(virtual)
    from eai_notebook.elastic.fault_tolerant_ring import FaultTolerantRing

    if not survivors.is_fault_tolerant() and collective.rank() == 0:
        say(
            "the ranks were not started to outlive each other: if one dies, all end "
            "(`%eai up --elastic`, or `mpirun --with-ft ulfm`)",
            error=True,
        )
    ring = FaultTolerantRing.form(comm, numbers, virtual, int(os.environ.get(LEAST, "1")))
    ring.on_change = on_change
    return ring


def _counts(shares: VirtualData, virtual: int, most: int | None) -> list[int]:
    """Return how many steps each virtual rank takes part in."""
    counts = [shares.count(each) for each in range(virtual)]
    return counts if most is None else [min(count, most) for count in counts]


def _build(model: keras.Model, batch: Any) -> None:
    """Make all variables of model, metrics and optimizer."""
    build_whole(model, tf.data.Dataset.from_tensors(batch))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _share_from_rank_0(model: keras.Model) -> None:
    collective.broadcast_variables([*model.weights, *model.optimizer.variables])


def _rows_in(batch: Any) -> int:
    return int(keras.tree.flatten(batch)[0].shape[0])


def _is_due(epoch: int, freq: Any) -> bool:
    """Return whether to validate after an epoch, as Keras has it."""
    return (epoch + 1) % freq == 0 if isinstance(freq, int) else epoch + 1 in freq


@contextlib.contextmanager
def _leaving_on_notice(ring: Ring) -> Iterator[None]:
    """Have SIGTERM mean, in the block, that this rank is to leave at the end of the step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(*_: object) -> None:
        ring.is_leaving = True

    usual = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)
