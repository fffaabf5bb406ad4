"""Keras callbacks for distributed training; callbacks that write files stay on rank 0.

Two of ours enclose the user's. The first sees the epoch's metrics before anyone else and
replaces them by those of all ranks. The last sees what the user's callbacks have done (a
restored backup, a decision to stop) and makes it common.
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

import keras

from eai_notebook import collective
from eai_notebook.ledger.context import BETWEEN
from eai_notebook.models.batch_norm import synchronise_batch_norm
from eai_notebook.train import (
    fit_data,
    held_optimizers,
    lone_fits,
    loss_sums,
    map_constants,
    rank_consistency,
    same_settings,
)
from eai_notebook.train.callback_laps import timed
from eai_notebook.train.exchange import fusion_autotune
from eai_notebook.train.global_metrics import of_all_ranks, reduce_metrics, unused
from eai_notebook.train.layer_state import check_states
from eai_notebook.train.measured_step import MeasuredStep
from eai_notebook.train.recording import step_clock
from eai_notebook.train.replica_check import ReplicaCheck
from eai_notebook.train.trials import step_trial
from eai_notebook.train.trials.trial_watch import TrialWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WRITERS: Final = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)
"""Callbacks that write somewhere: on more than one rank they would overwrite each other."""


def callbacks(
    *own: keras.callbacks.Callback | Iterable[keras.callbacks.Callback],
    name: str | None = None,
    check_every: int | None = None,
) -> list[keras.callbacks.Callback]:
    """Return the callbacks to give to plain ``model.fit``: ours around the user's `own`.

    They share rank 0's initial state, measure each step, and replace metrics by those of
    all ranks; laps between the user's say what each of these takes. At each epoch's end they compare the ranks' weights. Progress bars and the callbacks that write files are kept on rank 0 only.
    Make a new list for every fit.

    Args:
        own: Callbacks, or lists of them.
        name: What the run is called in the record; by default the notebook and the model.
        check_every: Compare the ranks' weights after so many steps, too.

    Returns:
        A list for ``model.fit(callbacks=...)``.

    Examples:
        >>> [type(callback).__name__ for callback in callbacks(keras.callbacks.EarlyStopping())]
        ['FirstCallback', 'ReplicaCheck', 'Lap', 'EarlyStopping', 'Lap', 'LastCallback']

    """
    collective.ensure_formed()
    users: list[keras.callbacks.Callback] = keras.tree.flatten(list(own))
    return callbacks_of(users, name=name, check_every=check_every)


def callbacks_of(
    users: Iterable[keras.callbacks.Callback],
    *,
    name: str | None = None,
    check_every: int | None = None,
    same_held: bool | None = None,
    same: bool | None = None,
    rows_compared: bool = False,
) -> list[keras.callbacks.Callback]:
    """Return `callbacks` for data that is known better than plain ``model.fit`` knows it.

    `same_held` is whether all ranks validate on the same rows, `same` whether they train on the
    same, `rows_compared` whether that was looked at already.
    """
    users = list(users)
    hooked = any(_sees_batches(callback) for callback in _kept(users))
    last = BatchwiseLastCallback(name) if hooked else LastCallback(name)
    last.rows_compared, last.same = rows_compared, same
    return with_distributed_callbacks(users, last, check_every, same_held)


def with_distributed_callbacks(
    users: Iterable[keras.callbacks.Callback],
    last: LastCallback,
    check_every: int | None,
    same_held: bool | None = None,  # noqa: FBT001 -- passed on
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a run of all ranks: those of `users` that stay, and ours around them."""
    # The check stands in front of the user's callbacks, so that nothing false is saved.
    first = FirstCallback(same_held, last)
    return [first, ReplicaCheck(check_every), *timed(_kept(users)), last]


def _kept(users: Iterable[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Leave out, on all ranks but 0, what writes files."""
    first = collective.rank() == 0
    return [callback for callback in users if first or not isinstance(callback, WRITERS)]


def _sees_batches(callback: keras.callbacks.Callback) -> bool:
    """Return whether `callback` does something after each training batch."""
    own, base = type(callback), keras.callbacks.Callback
    return any(getattr(own, name) is not getattr(base, name) for name in _BATCH_HOOKS)


_BATCH_HOOKS: Final = ("on_batch_end", "on_train_batch_end")


class FirstCallback(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Checks the optimizer, and makes every metric one of all ranks.

    Args:
        same_held: Whether all ranks validate on the same rows; None to find out.
        last: The last callback, which finds out whether all ranks train on the same rows.
    """

    def __init__(self, same_held: bool | None, last: LastCallback) -> None:  # noqa: FBT001
        super().__init__()
        self._same_held = same_held
        self._last = last
        self._training = False
        self._averaged = False
        self._validates = 0.0
        self._train: dict[str, Any] | None = None
        self._local: dict[str, Any] = {}
        self._own: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._test: _TestStep | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Silence the progress bar of all ranks but 0; it is asked after this callback."""
        if collective.rank() != 0:
            params["verbose"] = 0
        super().set_params(params)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Refuse what would hang or drift apart."""
        rank_consistency.distribute(self.model, wrap=False)
        rank_consistency.check_same(self.model, self.params.get("steps"))
        same_settings.check({"epochs": self.params.get("epochs")})
        same_settings.check_compiled(self.model)
        lone_fits.began(self.model)
        loss_sums.count_all_ranks(self.model)
        held_optimizers.settle_rows(self.model)
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Forget the last epoch's metrics."""
        self._averaged = False
        self._train, self._validation = None, {}

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take the training metrics' states before Keras resets them for validation."""
        if self._training:
            self._validates = time.perf_counter()
            self._average_statistics()
            self._own = self._of_own_step()
            self._local = self.model.get_metrics_result()
            self._train = reduce_metrics(self.model, self._local, copies=self._copies)
            if type(self.model).test_step is not keras.Model.test_step:
                self._test = self.model.test_function = _TestStep(self.model.test_function)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the validation metrics while their states are there."""
        if not self._training:
            return
        values = dict(logs or {})
        if self._test is not None:
            self.model.test_function = self._test.plain
            values.update(unused(self.model, self._test.logs))
            self._test = None
        found = {**values, **reduce_metrics(self.model, values, same=self._same_held)}
        self._validation = {f"val_{name}": value for name, value in found.items()}
        running = step_clock.current()
        if running is not None:
            took = time.perf_counter() - self._validates
            running.named.add(BETWEEN, took, "validation")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Replace the epoch's metrics; all later callbacks get the same dictionary."""
        self._average_statistics()
        if logs is None:
            return
        trained = {name: value for name, value in logs.items() if name not in self._validation}
        if self._train is None:
            trained.update(self._of_own_step())
            trained.update(reduce_metrics(self.model, trained, copies=self._copies))
        else:
            trained.update(self._own)
            trained.update(of_all_ranks(trained, self._local, self._train))
        logs.update(trained)
        logs.update({name: value for name, value in self._validation.items() if name in logs})

    @property
    def _copies(self) -> int:
        """How many ranks train on each row."""
        return collective.size() if self._last.same else 1

    def _of_own_step(self) -> dict[str, Any]:
        """Return what the last step returned where Keras would show a mean of nothing."""
        step = self.model.train_function
        return unused(self.model, step.logs) if isinstance(step, MeasuredStep) else {}

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Leave later evaluations alone."""
        self._training = False
        lone_fits.ended()
        held_optimizers.settle_rows(self.model)

    def _average_statistics(self) -> None:
        if not self._averaged:
            rank_consistency.average_statistics(self.model)
        self._averaged = True


class _TestStep:
    """A model's test function that keeps what the last step returned."""

    def __init__(self, plain: Callable[[Any], Any]) -> None:
        self.plain = plain
        self.logs: Any = None

    def __call__(self, iterator: Any) -> Any:
        self.logs = self.plain(iterator)
        return self.logs


class LastCallback(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Shares the state that training begins with, and runs the step clock."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self._name = name
        self._epoch = 0
        self._wants_stop = False
        self._trials: TrialWatch | None = None
        self.rows_compared = False
        """Whether it was looked at already if all ranks train on the same rows."""
        self.same: bool | None = None
        """Whether they do; None while it is unknown."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Get ready to share rank 0's state and to measure, when the first step begins.

        Where rank 0 alone has restored a backup, it alone knows the epoch to go on from.
        """
        rank_consistency.share_epoch(self.model)
        if self.model.steps_per_execution != 1:
            warnings.warn(
                "steps are not measured with steps_per_execution > 1: compile with 1",
                stacklevel=2,
            )
            self._before_first(None)
            return
        step = self.model.train_function
        if not (isinstance(step, MeasuredStep) and step.fits(self.model)):
            plain = step.plain if isinstance(step, MeasuredStep) else step
            step = self.model.train_function = MeasuredStep(self.model, plain)
        before = functools.partial(self._before_first, step)
        step_clock.announce(self._name or self.model.name)
        step.on_first(before=before, after=functools.partial(self._begin_run, step))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Book what happened between two epochs to no step."""
        self._epoch = epoch
        running = step_clock.current()
        if running is not None:
            running.epoch = epoch
            running.resume()
            running.opens_epoch = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the epoch's metrics; stop everywhere when one rank wants to."""
        running = step_clock.current()
        if running is not None:
            running.end_epoch(epoch, logs)
        if collective.size() > 1:
            wanted = self._wants_stop or bool(self.model.stop_training)
            self.model.stop_training = rank_consistency.any_rank(wanted)
        self._wants_stop = False

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """End the run, and a trial that is still going on."""
        if self._trials is not None:
            self._trials.end()
            self._trials = None
            if isinstance(self.model.train_function, MeasuredStep):
                self.model.train_function.tuner = None  # it holds the data
        step_clock.end_run("done")

    def _before_first(self, step: MeasuredStep | None) -> None:
        """Compare the ranks' rows and preprocessing, and share rank 0's state."""
        if collective.size() > 1 and not self.rows_compared and step is not None:
            self.same = fit_data.compare(fit_data.Batches(step.data), None)[0]
            fit_data.warn_same_rows(self.same)
        check_states(self.model)
        map_constants.check(None if step is None else step.data)
        synchronise_batch_norm(self.model)
        rank_consistency.share_state(self.model)

    def _begin_run(self, step: MeasuredStep) -> None:
        """Announce the run, when compiling is over."""
        planned = (self.params.get("epochs") or 0) * (self.params.get("steps") or 0)
        begin = functools.partial(step_trial.of_armed, step.input_data, step_clock.note_trial)
        tuner = begin() or fusion_autotune.tuner_for(self.model, planned)
        step.tuner = self._trials = TrialWatch(tuner, begin)
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        facts = step_clock.facts_of(self.model, epochs, steps, step.tracing_s)
        exchange = {
            name: getattr(self.model.optimizer, name, default)
            for name, default in (("wire", "fp32"), ("sparse", "merged"), ("row_wise", None))
        }
        if fused := collective.fused_bytes():
            exchange["fused_bytes"] = fused
        sizing = getattr(step.input_data, "sizing", None)
        for name in ("readers", "queue"):
            if (size := getattr(sizing, name, None)) is not None:
                exchange[name] = int(size.size)
        named = {} if self._name else {"unnamed": True}
        running = step_clock.begin_run(
            self._name or self.model.name, {**facts, **exchange, **named}
        )
        running.epoch = self._epoch


class BatchwiseLastCallback(LastCallback):
    """The last callback where others may stop training after a batch.

    A rank that leaves the epoch alone would leave the others waiting for its gradients: it
    stays until the epoch's end, and then all stop. A class of its own, because Keras runs
    callbacks beside the next step only if none has a hook on batches.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Put a wish to stop off to the end of the epoch."""
        if self.model.stop_training and collective.size() > 1:
            self._wants_stop = True
            self.model.stop_training = False
