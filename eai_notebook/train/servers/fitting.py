"""`fit` on parameter servers: rank 0 has the workers step, each on its own rank's data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import agreement, clock, marks
from eai_notebook.train.rows import HEAD, SAMPLES
from eai_notebook.train.servers.cluster import quiet
from eai_notebook.train.servers.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.train.servers.cluster import ParameterServers


def fit(
    servers: ParameterServers,
    model: keras.Model,
    data: Any,
    epochs: int,
    *,
    steps_per_epoch: int | None = None,
    verbose: int | str = "auto",
    **others: Any,
) -> keras.callbacks.History:
    """Train the compiled `model`; every rank must call it, each with its own data.

    In a synchronous step every worker fetches all weights, computes a gradient on its next
    batch and sends it; the mean of all is applied before the next step begins. Otherwise
    each worker's gradient is applied as it comes. A worker's data is repeated. At the end
    all ranks' models have the servers' weights. Synchronous steps are recorded as a run, all but
    the first, in which TensorFlow compiles: how long each took, and its samples. What of it was
    input or exchange the workers' graphs do not tell, so that is missing.

    Returns:
        Keras's history with ``loss``, the mean over an epoch's steps; empty but on rank 0.

    Raises:
        EaiError: data that is no ``tf.data.Dataset``, or a setting that has no meaning here.
    """
    _check(model, data, {name: value for name, value in others.items() if value})
    known = int(data.cardinality()) if steps_per_epoch is None else steps_per_epoch
    steps = agreement.fewest(known if known > 0 else None, "batches")
    if steps is None:
        what = "the ranks cannot tell how many batches their data has"
        raise EaiError(what, "pass steps_per_epoch=")
    graphs = [
        collective.broadcast_object(_graph_of(data), root) for root in range(collective.size())
    ]
    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    if collective.rank() == 0:
        with quiet(), clock.closing():
            _train(servers, model, (graphs, data.element_spec), (epochs, steps), history, verbose)
    collective.broadcast_variables(model.variables)
    return history


def _train(
    servers: ParameterServers,
    model: keras.Model,
    data: tuple[list[bytes], Any],
    length: tuple[int, int],
    history: keras.callbacks.History,
    verbose: int | str,
) -> None:
    """Coordinate the whole training."""
    epochs, steps = length
    coordinator, workers = servers.coordinator, len(servers.layout.workers)
    weights = Weights(model, len(servers.layout.servers), None if servers.asynchronous else workers)
    batches = coordinator.create_per_worker_dataset(_reader(*data))
    iterator = iter(batches)
    work = _work(model, weights, asynchronous=servers.asynchronous)
    servers.step_seconds = []
    noted = _Steps(model, (epochs, steps), data[1], workers, len(servers.layout.servers))

    @tf.function
    def update() -> None:
        for server in weights.servers:
            server.apply_sums()

    for epoch in range(epochs):
        weights.loss.assign(0.0)
        noted.resume()
        for _ in range(steps):
            begin = time.perf_counter()
            for _ in range(workers):
                coordinator.schedule(work, args=(iterator,))
            if not servers.asynchronous:
                coordinator.join()
                update()
                servers.step_seconds.append(time.perf_counter() - begin)
                noted.end_step(servers.step_seconds[-1])
        coordinator.join()
        loss = float(weights.loss.read_value()) / (steps * workers)
        history.on_epoch_end(epoch, {"loss": loss})
        if verbose:
            print(f"epoch {epoch + 1}/{epochs}  loss {loss:.4f}", flush=True)  # noqa: T201
    weights.take_home(model)


class _Steps:
    """Records the coordinator's steps as a run, which begins when the first one is over."""

    def __init__(
        self, model: keras.Model, length: tuple[int, int], spec: Any, workers: int, servers: int
    ) -> None:
        self._model, self._length = model, length
        self._layout = {"workers": workers, "parameter_servers": servers}
        self._marks = np.full(HEAD + marks.WIDTH, np.nan)
        rows = tf.nest.flatten(spec)[0].shape[0]
        if rows is not None:
            self._marks[SAMPLES] = rows * workers
        self._running: clock.StepClock | None = None

    def end_step(self, seconds: float) -> None:
        """Note that a step is over that took so long."""
        if self._running is None:
            facts = clock.facts_of(self._model, *self._length, seconds)
            self._running = clock.begin_run(
                "parameter servers", {**facts, **self._layout}, alone=True
            )
        else:
            self._running.take(self._marks, marked=False)

    def resume(self) -> None:
        """Begin the next step now: what went before it belongs to no step."""
        if self._running is not None:
            self._running.resume()


def _work(model: keras.Model, weights: Weights, *, asynchronous: bool) -> Any:
    """Return the `tf.function` that a worker runs on its iterator for one batch."""

    @tf.function
    def work(iterator: Any) -> None:
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(next(iterator))
        values = weights.read()
        others = [other.read_value() for other in weights.others]
        with tf.GradientTape() as tape:
            tape.watch(values)
            predicted, moved = model.stateless_call(values, others, inputs, training=True)
            loss = model.compute_loss(
                x=inputs, y=targets, y_pred=predicted, sample_weight=sample_weight
            )
        gradients = tape.gradient(loss, values)
        for server in weights.servers:
            own = [gradients[place] for place in server.places]
            if asynchronous:
                server.apply(own)
            else:
                server.add(own)
        for other, value in zip(weights.others, moved, strict=True):
            other.assign(value)
        weights.loss.assign_add(loss)

    return work


def _graph_of(data: tf.data.Dataset) -> bytes:
    """Return a dataset as a graph that another process's TensorFlow can make it of again."""
    variant = tf.data.experimental.to_variant(data.repeat())
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant)
    definition = tf.compat.v1.GraphDef.FromString(graph.numpy())
    functions = definition.library.function
    for node in (*definition.node, *(node for each in functions for node in each.node_def)):
        node.device = ""  # functions of Python name the process that made them
    return bytes(definition.SerializeToString())


def _reader(graphs: list[bytes], spec: Any) -> Callable[[], tf.data.Dataset]:
    """Return what makes, on a worker, the dataset of that worker's rank.

    Functions of Python in it are found there: the worker is in the rank's own process.
    """

    def read() -> tf.data.Dataset:
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        graph = tf.gather(tf.constant(graphs), worker)
        return tf.data.experimental.from_variant(tf.raw_ops.DatasetFromGraph(graph_def=graph), spec)

    return read


def _check(model: keras.Model, data: Any, others: dict[str, Any]) -> None:
    if not isinstance(data, tf.data.Dataset):
        what = f"parameter servers cannot train on a {type(data).__name__}"
        raise EaiError(what, "give a tf.data.Dataset or eai.io data")
    if others:
        what = f"{', '.join(sorted(others))} has no meaning on parameter servers yet"
        raise EaiError(what, "leave it out, or train in the ring (`%eai up` without --mode ps)")
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if inner.global_clipnorm or inner.gradient_accumulation_steps:
        what = "global_clipnorm and gradient accumulation need all gradients in one place"
        raise EaiError(what, "use clipnorm or clipvalue on parameter servers")
