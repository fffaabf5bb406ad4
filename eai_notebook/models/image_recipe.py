"""Training recipe of image models: loss, initializers, metrics, batch-norm momentum.

Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 5.1, unless
noted otherwise. Learning rates are in `eai_notebook.schedules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import keras

from eai_notebook.errors import EaiError
from eai_notebook.models.batch_norm import BatchNorm, SyncBatchNormalization

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH_NORM_MOMENTUM = 0.9


def prepared(
    model: keras.Model,
    *,
    batch_norm: BatchNorm,
    weight_decay: float,
    zero_gamma: Callable[[str], bool] = lambda _: False,
) -> keras.Model:
    """Return a copy of `model` with new weights, changed to follow the recipe.

    - Convolutions and dense layers start with He's variance (normal, fan-out), the last layer
      with a standard deviation of 0.01. Their kernels decay; biases and batch norm do not.
    - Batch norm has momentum 0.9, so that its averages follow in short trainings.

    Args:
        model: A functional model whose last layer returns logits.
        batch_norm: The samples that batch norm normalises by.
        weight_decay: L2, as part of the loss: adds ``weight_decay`` times the kernel to each
            kernel's gradient.
        zero_gamma: Returns whether a batch norm, by name, starts with gamma 0: the last one of
            each residual block, so that blocks start as the identity.

    Raises:
        EaiError: An unknown `batch_norm`, or a negative decay.
    """
    if batch_norm not in get_args(BatchNorm):
        raise EaiError(
            f"batch_norm={batch_norm!r} is unknown",
            f"use one of {get_args(BatchNorm)}",
            code="option-invalid",
        )
    if weight_decay < 0:
        raise EaiError(f"weight_decay is {weight_decay}", "use 0 or more", code="option-invalid")
    last = model.layers[-1].name

    def change(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = type(layer), layer.get_config()
        if "kernel_regularizer" in config:
            config["kernel_initializer"] = _initializer(is_last=layer.name == last)
            config["kernel_regularizer"] = keras.regularizers.L2(weight_decay / 2)
            if not weight_decay:
                config["kernel_regularizer"] = None
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = BATCH_NORM_MOMENTUM
            config["gamma_initializer"] = "zeros" if zero_gamma(layer.name) else "ones"
            kind = SyncBatchNormalization if batch_norm == "synchronised" else kind
        return kind.from_config(config)

    return keras.models.clone_model(model, clone_function=change)


def crossentropy(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Return the loss of logits ``[batch, classes]`` and integer labels ``[batch]``.

    Args:
        label_smoothing: Share of the target that is spread evenly over all classes; 0.1
            in Szegedy et al. 2015, "Rethinking the Inception Architecture", section 7.

    Raises:
        EaiError: A share that is not in [0, 1).

    Examples:
        >>> loss = crossentropy(0.1)
        >>> round(float(loss([0, 1], [[4.0, 0.0], [0.0, 4.0]])), 4)
        0.2181
    """
    if not 0 <= label_smoothing < 1:
        raise EaiError(
            f"label_smoothing is {label_smoothing}",
            "use a share from 0 to below 1",
            code="option-invalid",
        )
    if not label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")
    return SmoothedCrossentropy(label_smoothing)


@keras.saving.register_keras_serializable(package="eai_notebook")
class SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc,unused-ignore]
    """Cross-entropy with label smoothing for integer labels; see `crossentropy`."""

    def __init__(
        self,
        label_smoothing: float,
        reduction: str = "sum_over_batch_size",
        name: str = "crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return each sample's loss, shape ``[batch]``."""
        logits = keras.ops.convert_to_tensor(y_pred)
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        return keras.losses.categorical_crossentropy(
            keras.ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype),
            logits,
            from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the loss's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def accuracies(top: Sequence[int] = (1, 5)) -> list[keras.metrics.Metric]:
    """Return metrics for the share of samples whose label is among the top k: top1, top5.

    Raises:
        EaiError: A k below 1.

    Examples:
        >>> [metric.name for metric in accuracies()]
        ['top1', 'top5']
    """
    if min(top, default=1) < 1:
        raise EaiError(f"top {tuple(top)}", "use numbers from 1 on", code="option-invalid")
    return [keras.metrics.SparseTopKCategoricalAccuracy(k, name=f"top{k}") for k in top]


def _initializer(*, is_last: bool) -> keras.initializers.Initializer:
    if is_last:
        return keras.initializers.RandomNormal(stddev=0.01)
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
