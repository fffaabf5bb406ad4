"""Batch normalization over the samples of all ranks, and its export as a plain layer."""

from __future__ import annotations

import types
from typing import Any, Literal

import keras
from keras import ops

from eai_notebook import collective
from eai_notebook.errors import EaiError

BatchNorm = Literal["local", "synchronised"]
"""Samples that a layer normalises by in training: those of its own rank, or of all ranks."""


@keras.saving.register_keras_serializable(package="eai_notebook")
class SyncBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc,unused-ignore]
    """Batch normalisation by the mean and variance of all ranks' samples together.

    Keras's own ``synchronized=True`` needs replicas of a `tf.distribute` strategy, and there is
    none here. N ranks with this layer compute the same as one process with the global batch,
    gradients included, also for batches of different sizes. Each call exchanges
    ``2 x channels + 1`` numbers forward and as many backward while the ranks wait, so use it only
    for a few samples a rank. The ledger books this wait to `compute`.

    Weights, their names and the output after training equal the plain layer's:
    `local_batch_norm` returns a model that loads without this package.

    Args:
        kwargs: Arguments of `keras.layers.BatchNormalization`.

    Raises:
        EaiError: It is called with a mask; Keras passes that on as a `RuntimeError`.

    Examples:
        >>> layer = SyncBatchNormalization(momentum=0.9)
        >>> layer(ops.ones((4, 2)), training=True).shape
        TensorShape([4, 2])
    """

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Return mean and variance by channel; Keras calls it in each training step."""
        if mask is not None:
            raise EaiError(
                f"{self.name} cannot exclude masked samples",
                "normalise before masking",
                code="batch-norm-masked",
            )
        axes = self._reduction_axes
        sums = ops.sum(inputs, axes)
        count = ops.cast(ops.size(inputs) / ops.size(sums), inputs.dtype)
        parts = [sums, ops.sum(ops.square(inputs), axes), ops.reshape(count, (1,))]
        # Not by the layer's name: Keras numbers unnamed layers, and a rank that made one more
        # would wait without end. The order of the layers identifies the exchange.
        total = collective.joint_sum(ops.concatenate(parts), "batch_norm")
        channels = inputs.shape[self.axis]
        mean, square = total[:channels] / total[-1], total[channels:-1] / total[-1]
        # Rounding must not make a variance of 0 negative.
        return mean, ops.maximum(square - ops.square(mean), 0.0)


def synchronise_batch_norm(model: keras.Model) -> None:
    """Make Keras layers with ``synchronized=True`` normalise over the samples of all ranks.

    Keras needs replicas of a `tf.distribute` strategy, and there is none here: the layer would
    silently use its own rank's samples. `fit` and `callbacks` call this before the first step;
    the layer's configuration and its saved form do not change.

    Examples:
        >>> layer = keras.layers.BatchNormalization(synchronized=True)
        >>> synchronise_batch_norm(keras.Sequential([layer]))
    """
    if not collective.exchanges():
        return
    for layer in model._flatten_layers():  # noqa: SLF001 -- the only way to those inside others
        asked = isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized
        if asked and type(layer)._moments is keras.layers.BatchNormalization._moments:  # noqa: SLF001
            # (Not as a tracked attribute: Keras would look into it.)
            moments = types.MethodType(SyncBatchNormalization._moments, layer)  # noqa: SLF001
            object.__setattr__(layer, "_moments", moments)


def local_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with Keras's own batch normalisation and the same weights.

    It predicts the same and, once saved, loads without this package. The copy is not compiled.

    Examples:
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, SyncBatchNormalization()(inputs))
        >>> [type(layer).__name__ for layer in local_batch_norm(model).layers]
        ['InputLayer', 'BatchNormalization']
    """

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = type(layer)
        if kind is SyncBatchNormalization:
            kind = keras.layers.BatchNormalization
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    return copy
