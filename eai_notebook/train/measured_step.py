"""Build the training function with timestamps in its graph.

Keras asks the iterator for a batch inside its compiled step, where Python cannot see how
long that takes. So for a measured run the step is compiled by us, from the same parts
and with the same outcome: ``model.train_step`` on the iterator's next batch. An iterator that
says that it is `quick_in_python`, such as `eai_notebook.io`'s, is asked before the step begins.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.ledger.context import BETWEEN
from eai_notebook.train import lone_fits, matching, rank_consistency
from eai_notebook.train.compiled_step import CompiledStep
from eai_notebook.train.exchange.xla_clusters import compiled
from eai_notebook.train.function_errors import of_python_function
from eai_notebook.train.held_optimizers import has_own_step, is_whole
from eai_notebook.train.iterator_release import release_in_background
from eai_notebook.train.recording import graph_timestamps, step_clock
from eai_notebook.train.recording.step_rows import ASKED, GOT
from eai_notebook.train.sharded.sharded_embedding import explained

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf

    from eai_notebook.train.recording.step_clock import StepClock
    from eai_notebook.train.trials.trial_watch import TrialWatch


class MeasuredStep:
    """A Keras model's train function that marks its input and reports to the step clock.

    Keras calls it with the iterator and takes the logs it returns. Without an open run
    it only trains.
    """

    def __init__(self, model: keras.Model, plain: Callable[[Any], Any]) -> None:
        """Measure `model`'s training steps; `plain` is the function Keras made for it."""
        self.plain = plain
        self.optimizer = model.optimizer
        self.ring = _ring()
        self._clockless = graph_timestamps.is_deterministic()
        self.tracing_s = 0.0
        """How long compiling the step took, in seconds; 0 until it has been done."""
        self.tuner: TrialWatch | None = None
        self.data: tf.data.Dataset | None = None
        """What the run's batches come from, while the hook before the first step is called."""
        self.input_data: Any = None
        """The data of `eai.io` that they come from, if they do, while a hook is called."""
        self._ready = False
        self._known: weakref.ref[Any] | None = None
        self._is_quick = False
        self._samples: float | None = None
        self._unmarked: Any = None
        self._eager = model.run_eagerly
        self.logs: Any = None
        """What the last step returned."""
        self._hooks: tuple[Callable[[], None], Callable[[], None]] | None = None
        self._model = model
        self._marked = _compiled(model, eager=self._eager, marked=True)

    def fits(self, model: keras.Model) -> bool:
        """Return whether this function may still be used for `model` as it is now."""
        return self.optimizer is model.optimizer and self.ring == _ring()

    def on_first(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """Have hooks called once: `before` the next step is compiled, and `after` that.

        `before` is called once more if the model got weights only while the step was compiled.
        """
        self._hooks = before, after

    def __call__(self, iterator: Any) -> Any:
        """Train on the iterator's next batch and return the logs."""
        if self._known is None or self._known() is not iterator:
            import tensorflow as tf

            if not isinstance(iterator, tf.data.Iterator):
                return self.plain(iterator)  # train_on_batch
            self._meet(iterator)
        if self._hooks is not None:
            self._begin(iterator, *self._hooks)
        running = step_clock.current()
        marked = self._open_step(running)
        step = self._marked
        if not marked and not self._clockless:
            step = self._compiled_unmarked(running, iterator)
        traced = _tracing.seconds
        try:
            if self._is_quick:
                logs, taken = step(*_next_of(iterator, marked=marked))
            else:
                logs, taken = step(iterator)
        except Exception as error:
            # Data that knows what was wrong says it better than TensorFlow's report of it.
            cause = _said_better(iterator, error)
            if cause is None:
                raise
            raise cause from None
        if running is not None:
            if _tracing.seconds > traced:
                taken = self._note_tracing(running, taken, _tracing.seconds - traced, marked=marked)
            # Where the samples are known anyway, a tensor would be kept, and read, for nothing.
            own = None if marked else self._samples
            running.take(taken if own is None else own, marked=marked, logs=logs)
        self.logs = logs
        return logs

    def _open_step(self, running: StepClock | None) -> bool:
        """Return whether the step that begins now is measured."""
        marked = running is None or running.begin_step() or self._eager
        if self.tuner is not None and self.tuner.before_step() and running is not None:
            running.resume()
        return marked and not self._clockless

    def _note_tracing(self, running: StepClock, taken: Any, seconds: float, *, marked: bool) -> Any:
        """Note that the step was traced anew, for a batch of another shape mostly; return its marks."""
        running.named.add("compiling", seconds)
        return _after_tracing(taken, seconds if self._is_quick and marked else 0.0)

    def _meet(self, iterator: tf.data.Iterator) -> None:
        """Get ready for the batches of an iterator that did not come before."""
        release_in_background(iterator)
        self._known = weakref.ref(iterator)
        self._is_quick = _is_quick(iterator)
        self._samples = _static_samples(iterator.element_spec)
        for step in (self._marked, self._unmarked):
            if isinstance(step, CompiledStep):
                step.forget()

    def _compiled_unmarked(self, running: StepClock | None, iterator: Any) -> Any:
        """Return the step without marks; compiling it, the first time, belongs to no step.

        Only a model with short steps needs it, and one compiles soon.
        """
        if self._unmarked is None:
            began = time.perf_counter()
            self._unmarked = _compiled(self._model, eager=False, marked=False)
            self._unmarked.get_concrete_function(*_spec_of(iterator))
            if running is not None:
                seconds = time.perf_counter() - began
                running.named.add(BETWEEN, seconds, "compiling the step without timestamps")
                running.resume()
                running.watch_cores_anew()
        return self._unmarked

    def _begin(
        self, iterator: tf.data.Iterator, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        """Compile first, so that the run's first step is not all compiling."""
        self._hooks = None
        self.data = getattr(iterator, "_dataset", None)
        self.input_data = getattr(iterator, "_input_data", None)
        build(self._model, iterator)
        before()
        self.data = None
        self._compile_alike()
        if not self._ready and not self._eager:
            began, weights = time.perf_counter(), len(self._model.weights)
            exchanged = lone_fits.noted()
            self._marked.get_concrete_function(*_spec_of(iterator))
            self.tracing_s = time.perf_counter() - began
            if lone_fits.noted() == exchanged and self._model.trainable_weights:
                rank_consistency.refuse_plain("the model's training step exchanges no gradients")
            if len(self._model.weights) != weights:
                before()
        self._ready = True
        after()
        self.input_data = None

    def _compile_alike(self) -> None:
        """Compile anew where another rank must: ranks talk while they compile."""
        if rank_consistency.any_rank(not self._ready) and self._ready:
            self._ready, self._unmarked = False, None
            self._marked = _compiled(self._model, eager=self._eager, marked=True)
        if not self._ready:
            matching.forget(self._model.trainable_variables)


class _Tracing:
    """How long the training steps of this process were traced so far, in seconds."""

    seconds = 0.0


_tracing = _Tracing()


def _after_tracing(taken: Any, seconds: float) -> Any:
    """Return a step's marks with the batch as late as if it had been asked for after tracing."""
    if not seconds:
        return taken
    moved = np.array(taken)
    moved[[ASKED, GOT]] += seconds
    return moved


def build(model: keras.Model, data: tf.data.Iterator | tf.data.Dataset) -> None:
    """Make the variables now that would be made while the first step on `data` is traced.

    TensorFlow traces a step twice if it made variables in it, so they are better made before.
    Where the data's shapes or the model's own ``train_step`` do not say how, tracing makes them.
    """
    import tensorflow as tf

    specs = keras.tree.flatten(data.element_spec)
    known = all(
        isinstance(spec, tf.TensorSpec)
        and spec.shape.rank is not None
        and _is_known(spec.shape[1:])
        for spec in specs
    )
    # What a step of the user's own calls, and with what, is known to that step alone.
    if has_own_step(model) or not known:
        return

    def one(spec: tf.TensorSpec) -> tf.Tensor:
        return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

    batch = keras.tree.map_structure(one, data.element_spec)
    # Whatever keeps it from being built so, tracing the step finds out, and says it better.
    with contextlib.suppress(Exception):
        model._symbolic_build(data_batch=batch)  # noqa: SLF001 -- as Keras does itself on JAX


def build_whole(model: keras.Model, data: tf.data.Dataset) -> None:
    """Make all variables as `build` does, for a training that shares them before its first step.

    Raises:
        EaiError: Some are still missing: the data's shapes or the model do not say how.
    """
    build(model, data)
    if not is_whole(model):
        raise EaiError(
            "the model has no weights yet",
            "build it first, with model.build(shape) or model(batch)",
            code="model-not-built",
        )


def _is_known(shape: tf.TensorShape) -> bool:
    return bool(shape.is_fully_defined())


def _ring() -> tuple[bool, int, bool]:
    """Return what a traced step depends on: whether it exchanges, between how many, and if it is measured."""
    return collective.exchanges(), collective.size(), not graph_timestamps.is_deterministic()


def _is_quick(iterator: tf.data.Iterator) -> bool:
    """Return whether the next batch is there sooner if Python asks for it, and not the graph."""
    return bool(getattr(iterator, "quick_in_python", False))


def _said_better(iterator: tf.data.Iterator, error: Exception) -> EaiError | None:
    """Return an error of TensorFlow's as the one that caused it, where that is known."""
    import tensorflow as tf

    if not isinstance(error, tf.errors.OpError):
        return None
    cause = getattr(iterator, "error", None) or explained(error) or of_python_function(error)
    return cause if isinstance(cause, EaiError) else None


def _next_of(iterator: tf.data.Iterator, *, marked: bool) -> tuple[Any, Any]:
    """Return the next batch of an iterator that is quick, and when it was asked for and came."""
    asked = time.time()
    batch = next(iterator)
    return batch, np.array([asked, time.time()] if marked else [np.nan, np.nan])


def _spec_of(iterator: tf.data.Iterator) -> tuple[Any, ...]:
    """Return what a step is compiled for."""
    import tensorflow as tf

    if not _is_quick(iterator):
        return (iterator,)
    return iterator.element_spec, tf.TensorSpec([2], tf.float64)


def _compiled(model: keras.Model, *, eager: bool, marked: bool) -> Any:
    """Return the step from what `_next_of` returns to (logs, marks), compiled unless `eager`.

    Unless `marked` it reads no clock and returns its samples in place of marks.
    """
    import tensorflow as tf

    def step(source: Any, times: Any = None) -> tuple[Any, tf.Tensor]:
        began = time.perf_counter()
        try:
            return body(source, times)
        finally:
            if not tf.executing_eagerly():
                _tracing.seconds += time.perf_counter() - began

    def body(source: Any, times: Any = None) -> tuple[Any, tf.Tensor]:
        if times is None:
            asked = graph_timestamps.stamp()
            with tf.control_dependencies([asked]):
                batch = source.get_next()
            tensors = _tensors_in(batch)
            got = graph_timestamps.stamp(tensors)
        else:
            batch, tensors = source, _tensors_in(source)
            asked, got = tf.unstack(times)
        batch = keras.tree.map_structure(_none_for_optional, batch)
        (batch,) = graph_timestamps.held([batch], got)
        with compiled(bool(model.jit_compile)):
            logs = model.train_step(batch)
        with tf.device("CPU:0"):
            if not graph_timestamps.are_taken():
                return logs, _samples(tensors)
            head = tf.stack([asked, got, _samples(tensors)])
            return logs, tf.concat([head, graph_timestamps.read()], axis=0)

    def unmarked(source: Any, times: Any = None) -> tuple[Any, tf.Tensor]:
        with graph_timestamps.left_out():
            return step(source, times)

    if eager:
        return step
    function = step if marked else unmarked
    return CompiledStep(tf.function(function, reduce_retracing=True, autograph=False))


def _tensors_in(batch: Any) -> list[tf.Tensor]:
    import tensorflow as tf

    flat = tf.nest.flatten(batch, expand_composites=True)
    return [part for part in flat if tf.is_tensor(part)]


def _none_for_optional(part: Any) -> Any:
    """Keras's data adapters wrap an absent part of a batch as an empty Optional."""
    import tensorflow as tf

    return None if isinstance(part, tf.experimental.Optional) else part


def _static_samples(spec: Any) -> float | None:
    """Return the length of each batch, where the data's shapes say it; as `_samples` finds it.

    Examples:
        >>> import tensorflow as tf
        >>> _static_samples((tf.TensorSpec([32, 2]), tf.TensorSpec([32])))
        32.0
        >>> _static_samples(tf.TensorSpec([None, 2])) is None
        True
    """
    import tensorflow as tf

    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
            return None
        if part.shape.rank > 0:
            return None if part.shape[0] is None else float(part.shape[0])
    return None


def _samples(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Return the length of the batch's first axis, NaN if it has none."""
    import tensorflow as tf

    for tensor in tensors:
        if tensor.shape.rank and tensor.shape[0] is not None:
            return tf.constant(tensor.shape[0], tf.float64)
        if tensor.shape.rank is None or tensor.shape.rank > 0:
            return tf.cast(tf.shape(tensor)[0], tf.float64)
    return tf.constant(float("nan"), tf.float64)
