"""Training steps on parameter servers.

Rank 0 runs the workers' steps. The other ranks wait for the end of the epoch, when all ranks'
models receive the servers' state.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from eai_notebook import collective
from eai_notebook.parameter_servers.server_weights import Weights, by_name
from eai_notebook.train.recording import graph_timestamps, step_clock
from eai_notebook.train.recording.step_rows import HEAD, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.parameter_servers.server_tasks import ParameterServers
    from eai_notebook.train.recording.step_clock import StepClock


class ServersStep:
    """Trains on all workers' next batches.

    `coordinator` is rank 0's, None on the others.
    """

    def __init__(self, model: keras.Model, coordinator: Coordinator | None) -> None:
        self._model = model
        self._coordinator = coordinator

    def begin_epoch(self) -> None:
        """Reset the states of metrics for a new epoch."""
        if self._coordinator is not None:
            self._coordinator.begin_epoch()

    def __call__(self) -> None:
        """Train on every worker's next batch."""
        if self._coordinator is not None:
            self._coordinator.step()

    def end_epoch(self) -> dict[str, Any]:
        """Copy the servers' state to all ranks' models; return the metrics."""
        if self._coordinator is not None:
            self._coordinator.finish_epoch()
        model = self._model
        collective.broadcast_variables([*model.weights, *model.optimizer.variables])
        metrics: dict[str, Any] = model.get_metrics_result()
        return {name: float(value) for name, value in metrics.items()}

    def close(self) -> None:
        """Delete everything on the workers, and wait for it.

        Datasets with Python functions need the interpreter to end. TensorFlow would wait for them
        later, such as when a seed is set, while it holds the interpreter.
        """
        self._coordinator = None
        context.context().sync_executors()


class Coordinator:
    """Rank 0's side: the servers' weights, the workers, and the record of their steps.

    Args:
        servers: The servers to train on.
        model: A compiled and built model.
        length: Epochs, and steps in each.
        data: Creates a worker's data, on the worker.
        samples: Rows of one batch, None if batches differ.
        name: Name of the run in the record.
    """

    def __init__(
        self,
        servers: ParameterServers,
        model: keras.Model,
        length: tuple[int, int],
        data: Callable[[], tf.data.Dataset],
        samples: int | None,
        name: str | None = None,
    ) -> None:
        servers.step_seconds = []
        self._servers, self._model = servers, model
        self._tasks = servers.coordinator
        self._workers = len(servers.layout.workers)
        self._data = data
        self._noted = _Steps(model, length, samples, servers, name)
        self._weights: Weights | None = None
        self._rate = by_name(model.optimizer.variables).get("learning_rate")
        self._set: float | None = None

    def begin_epoch(self) -> None:
        """Copy the model's weights to the servers if needed, and reset metrics."""
        if self._weights is None:
            self._begin()
        assert self._weights is not None  # noqa: S101 -- just created
        self._weights.begin_epoch()

    def _begin(self) -> None:
        """Create weights, iterators and functions of the steps from the current model."""
        servers, workers = self._servers, self._workers
        summed = None if servers.asynchronous else workers
        weights = self._weights = Weights(self._model, len(servers.layout.servers), summed)
        self._iterator = iter(self._tasks.create_per_worker_dataset(self._data))
        self._work = _work(self._model, weights, asynchronous=servers.asynchronous)

        @tf.function
        def update() -> None:
            for server in weights.servers:
                server.apply_sums()

        self._update = update

    def step(self) -> None:
        """Train every worker on its next batch; in synchronous mode, wait for all."""
        begin = time.perf_counter()
        self._follow_rate()
        if self._servers.asynchronous:
            for _ in range(self._workers):
                self._tasks.schedule(self._work, args=(self._iterator,))
            return
        once_on_each_worker(self._tasks, self._work, self._iterator)
        self._update()
        self._servers.step_seconds.append(time.perf_counter() - begin)
        self._noted.end_step(self._servers.step_seconds[-1])

    def finish_epoch(self) -> None:
        """Wait for all workers, and copy the servers' state to the model."""
        self._tasks.join()
        assert self._weights is not None  # noqa: S101 -- an epoch has begun
        self._weights.copy_to(self._model)

    def _follow_rate(self) -> None:
        """Copy the learning rate to the servers if a callback has changed it."""
        if self._rate is None:  # the servers' optimizers follow the schedule themselves
            return
        now = float(np.asarray(self._rate))
        if now != self._set and self._weights is not None:
            self._weights.set_rate(now)
        self._set = now


class _Steps:
    """Records the coordinator's steps as a run, which begins after the first step."""

    def __init__(
        self,
        model: keras.Model,
        length: tuple[int, int],
        samples: int | None,
        servers: ParameterServers,
        name: str | None,
    ) -> None:
        self._model, self._length = model, length
        self._name = name or "parameter servers"
        layout = servers.layout
        self._layout = {
            "workers": len(layout.workers),
            "parameter_servers": len(layout.servers),
        }
        self._marks = np.full(HEAD + graph_timestamps.WIDTH, np.nan)
        if samples is not None:
            self._marks[SAMPLES] = samples * len(layout.workers)
        self._running: StepClock | None = None

    def end_step(self, seconds: float) -> None:
        """Record a step that took `seconds`."""
        if self._running is None:
            facts = step_clock.facts_of(self._model, *self._length, seconds)
            self._running = step_clock.begin_run(self._name, {**facts, **self._layout}, alone=True)
        else:
            self._running.take(self._marks, marked=False)


def once_on_each_worker(tasks: Any, work: Any, *arguments: Any) -> None:
    """Run `work` exactly once on every worker, and return when all are done.

    ``tasks.schedule`` gives a function to any free worker: a fast worker would train on two
    batches and a slow one on none. TensorFlow addresses a worker only to create a resource there,
    so each step is sent as a resource. ``arguments`` are per-worker values, or the same on all.
    """
    workers = tasks._cluster.workers  # noqa: SLF001 -- nothing public names a worker
    ends = [worker.create_resource(work, args=arguments) for worker in workers]
    for end in ends:
        end.get()
    for worker in workers:
        # TensorFlow keeps a weak reference for each, to make resources again after a failure.
        worker._resource_remote_value_refs.pop()  # noqa: SLF001


def _work(model: keras.Model, weights: Weights, *, asynchronous: bool) -> Any:
    """Return the `tf.function` that a worker runs on its iterator for one batch."""

    @tf.function
    def work(iterator: Any) -> None:
        batch = keras.utils.unpack_x_y_sample_weight(next(iterator))
        values = weights.read()
        others = [other.read_value() for other in weights.others]
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss, moved, counts = _forward(model, values, others, batch)
        gradients = tape.gradient(loss, values)
        for server in weights.servers:
            own = [gradients[index] for index in server.indices]
            if asynchronous:
                server.apply(own)
            else:
                server.add(own)
        for other, value in zip(weights.others, moved, strict=True):
            other.assign(value)
        for count, counted in zip(weights.counts, counts, strict=True):
            count.assign_add(counted)

    return work


def _forward(
    model: keras.Model, values: list[tf.Tensor], others: list[tf.Tensor], batch: Any
) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
    """Return the loss, the updated non-trainable values, and the metric states of this batch.

    A worker cannot read the model's own variables, so everything uses `values`, as Keras does on
    JAX.
    """
    inputs, targets, sample_weight = batch
    predicted, moved, losses = model.stateless_call(
        values, others, inputs, return_losses=True, training=True
    )
    zeros = [tf.zeros(v.shape, v.dtype) for v in model.metrics_variables]
    given = {"x": inputs, "y": targets, "y_pred": predicted, "sample_weight": sample_weight}
    model._losses_override = losses  # noqa: SLF001 -- the only way `compute_loss` gets them
    try:
        loss, (_, moved, counts) = model.stateless_compute_loss(
            values, moved, zeros, training=True, **given
        )
    finally:
        model._losses_override = []  # noqa: SLF001
    counted = list(zip(model.metrics_variables, counts, strict=True))
    with keras.StatelessScope(state_mapping=counted) as scope:
        rows = tf.shape(keras.tree.flatten(inputs)[0])[0]
        model._loss_tracker.update_state(loss, sample_weight=rows)  # noqa: SLF001 -- as Keras does
        model.compute_metrics(**given)
    return loss, moved, [scope.get_current_value(v) for v in model.metrics_variables]
