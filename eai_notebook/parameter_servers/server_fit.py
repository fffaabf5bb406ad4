"""`fit` on parameter servers: Keras's loop around the servers' steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.parameter_servers.server_step import Coordinator, ServersStep
from eai_notebook.parameter_servers.server_tasks import quiet
from eai_notebook.train import _callbacks, lone_fits, rank_consistency
from eai_notebook.train.checkpoint import Checkpoint
from eai_notebook.train.global_metrics import is_additive, leaves
from eai_notebook.train.layer_state import check_states
from eai_notebook.train.measured_step import build_whole
from eai_notebook.train.recording import step_clock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from eai_notebook.parameter_servers.server_tasks import ParameterServers

_MEANINGFUL: Final = frozenset(
    {"initial_epoch", "validation_batch_size", "validation_steps", "verbose"}
)
"""Arguments of ``model.fit`` that work on servers, too."""


def fit(  # noqa: PLR0913 -- the arguments of `model.fit`
    servers: ParameterServers,
    model: keras.Model,
    data: Any,
    epochs: int,
    *,
    validation_data: Any = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    steps_per_epoch: int | None = None,
    name: str | None = None,
    **others: Any,
) -> keras.callbacks.History:
    """Train the compiled `model`; every rank must call it, each with its own data.

    In a synchronous step every worker fetches all weights, computes a gradient on its next batch
    and sends it; the mean is applied before the next step begins. Otherwise each worker's gradient
    is applied at once. A worker's data is repeated. At the end of an epoch all ranks' models and
    optimizers have the servers' state. The duration and samples of synchronous steps are recorded
    as a run, except the first one, which compiles. The workers' graphs do not measure input and
    exchange, so these are missing.

    Returns:
        Keras's history, with the same values on all ranks.

    Raises:
        EaiError: The data is no ``tf.data.Dataset``, or a setting does not work here.
    """
    others = {name: value for name, value in others.items() if value is not None}
    _check(model, data, others, checkpoint)
    known = int(data.cardinality()) if steps_per_epoch is None else steps_per_epoch
    steps = rank_consistency.fewest(known if known > 0 else None, "batches")
    if steps is None:
        what = "the number of batches is unknown"
        raise EaiError(what, "pass steps_per_epoch=", code="steps-unknown")
    rank_consistency.distribute(model, wrap=True)
    build_whole(model, data)
    _check_metrics(model)
    graphs = [
        collective.broadcast_object(_graph_of(data), root) for root in range(collective.size())
    ]
    length = epochs, steps
    # (Only the step refers to the coordinator, so that `close` can delete it.)
    step = ServersStep(model, _coordinator(servers, model, length, graphs, data.element_spec, name))
    users = keras.tree.flatten(list(callbacks))
    if checkpoint is not None:
        users.append(
            Checkpoint.of(checkpoint, None)
        )  # (A worker's data cannot start within an epoch.)
    verbose = others.pop("verbose", "auto")
    enclosed = keras.callbacks.CallbackList(
        _callbacks.with_distributed_callbacks(users, _LastCallback("parameter servers"), None),
        add_history=True,
        add_progbar=verbose != 0,
        verbose=2 if verbose == "auto" else verbose,  # lines, as in the ring
        epochs=epochs,
        steps=steps,
        model=model,
    )
    try:
        with quiet(), step_clock.closing():
            _loop(model, step, length, enclosed, validation_data, **others)
    finally:
        step.close()
    return model.history


def _coordinator(
    servers: ParameterServers,
    model: keras.Model,
    length: tuple[int, int],
    graphs: list[bytes],
    spec: Any,
    name: str | None,
) -> Coordinator | None:
    """Return the coordinator on rank 0, None on others."""
    if collective.rank() != 0:
        return None
    samples = tf.nest.flatten(spec)[0].shape[0]
    return Coordinator(servers, model, length, _reader(graphs, spec), samples, name)


def _loop(
    model: keras.Model,
    step: ServersStep,
    length: tuple[int, int],
    callbacks: keras.callbacks.CallbackList,
    validation_data: Any,
    *,
    initial_epoch: int = 0,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
) -> None:
    """Run Keras's training loop without its data adapter, which would read data on every rank."""
    epochs, steps = length
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(validation_data)
    model.stop_training = False
    callbacks.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(model._initial_epoch or initial_epoch, epochs):  # noqa: SLF001 -- as Keras
        model.reset_metrics()
        step.begin_epoch()
        callbacks.on_epoch_begin(epoch)
        for number in range(steps):
            callbacks.on_train_batch_begin(number)
            step()
            callbacks.on_train_batch_end(number, {})
        logs = step.end_epoch()
        if validation_data is not None:
            found = model.evaluate(
                x,
                y,
                sample_weight=sample_weight,
                batch_size=validation_batch_size,
                steps=validation_steps,
                callbacks=callbacks,
                return_dict=True,
            )
            logs |= {f"val_{name}": value for name, value in found.items()}
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end(logs)


class _LastCallback(_callbacks.BatchwiseLastCallback):
    """Callback for steps that are not made by Keras."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start at rank 0's epoch with its state; the servers receive it with the first epoch."""
        lone_fits.note_exchange()  # by the servers, not in Keras's own step
        rank_consistency.share_epoch(self.model)
        check_states(self.model)
        rank_consistency.share_state(self.model)


def _graph_of(data: tf.data.Dataset) -> bytes:
    """Return a dataset as a graph from which another process can create it."""
    variant = tf.data.experimental.to_variant(data.repeat())
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant)
    definition = tf.compat.v1.GraphDef.FromString(graph.numpy())
    functions = definition.library.function
    for node in (*definition.node, *(node for each in functions for node in each.node_def)):
        node.device = ""  # functions of Python name the process that made them
    return bytes(definition.SerializeToString())


def _reader(graphs: list[bytes], spec: Any) -> Callable[[], tf.data.Dataset]:
    """Return a function that creates, on a worker, the dataset of that worker's rank.

    Its Python functions exist there, because the worker is in the rank's process.
    """

    def read() -> tf.data.Dataset:
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        graph = tf.gather(tf.constant(graphs), worker)
        return tf.data.experimental.from_variant(tf.raw_ops.DatasetFromGraph(graph_def=graph), spec)

    return read


def _check(model: keras.Model, data: Any, others: dict[str, Any], checkpoint: object) -> None:
    if not isinstance(data, tf.data.Dataset):
        what = f"parameter servers cannot train on a {type(data).__name__}"
        raise EaiError(what, "pass a tf.data.Dataset or eai.io data", code="servers-unsupported")
    unknown = sorted(set(others) - _MEANINGFUL)
    if unknown:
        what = f"parameter servers do not support {', '.join(unknown)}"
        raise EaiError(
            what,
            "omit it, or train in the ring (`%eai up` without --mode ps)",
            code="servers-unsupported",
        )
    if isinstance(checkpoint, Checkpoint) and checkpoint.every_steps is not None:
        what = "parameter servers return weights at the end of an epoch only"
        raise EaiError(
            what,
            "omit the checkpoint's every_steps, or use shorter epochs",
            code="servers-unsupported",
        )
    if model.steps_per_execution != 1:
        what = f"the model is compiled with steps_per_execution={model.steps_per_execution}"
        raise EaiError(what, "compile it with 1 for parameter servers", code="servers-unsupported")
    if getattr(model.optimizer, "row_wise", None) is not None:
        what = "parameter servers update whole tables, and row_wise is for tables that ranks hold"
        raise EaiError(
            what,
            "compile the model without row_wise, or train in the ring",
            code="servers-unsupported",
        )
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if inner.global_clipnorm or inner.gradient_accumulation_steps:
        what = "global_clipnorm and gradient accumulation need all gradients on one server"
        raise EaiError(
            what, "use clipnorm or clipvalue on parameter servers", code="servers-unsupported"
        )


def _check_metrics(model: keras.Model) -> None:
    for metric in leaves(model.metrics):
        if not is_additive(metric):
            what = f"the state of metric {metric.name!r} cannot be summed over the workers"
            raise EaiError(
                what,
                "use metrics that inherit from Keras's, or train in the ring",
                code="servers-unsupported",
            )
