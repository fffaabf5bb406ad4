"""Image classification models: ResNet, Inception, VGG.

The four large ones are the graphs of `keras.applications` with new weights and the training recipe of
`eai_notebook.models.image_recipe`. All take pixels from 0 to 255.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras

from eai_notebook.errors import EaiError
from eai_notebook.models.image_recipe import prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.models.batch_norm import BatchNorm

Shape = tuple[int, ...]

_SMALLEST: Final = {"ResNet50": 32, "ResNet101": 32, "InceptionV3": 75, "VGG16": 32}
WEIGHT_DECAY: Final = 1e-4


def resnet50(
    classes: int = 1000,
    *,
    image: Shape = (224, 224, 3),
    batch_norm: BatchNorm = "local",
    zero_gamma: bool = True,
    weight_decay: float = WEIGHT_DECAY,
) -> keras.Model:
    """Return ResNet-50 (He et al. 2015, arXiv:1512.03385): 50 layers with short cuts.

    Args:
        classes: Number of classes.
        image: Height, width (at least 32 each) and colours of an image.
        batch_norm: Normalise by a rank's own samples, or ``"synchronised"`` by those of all
            ranks, for fewer than about 16 samples a rank.
        zero_gamma: Start each residual block as the identity, which large batches need.
        weight_decay: Decay of kernels only, not of biases and batch norm.

    Returns:
        An uncompiled model from pixels 0 to 255, ``[batch, height, width, colours]``, to
        logits, float32 ``[batch, classes]``.

    Raises:
        EaiError: An invalid size, or an unknown option.
    """
    return _large("ResNet50", classes, image, batch_norm, weight_decay, zero_gamma=zero_gamma)


def resnet101(
    classes: int = 1000,
    *,
    image: Shape = (224, 224, 3),
    batch_norm: BatchNorm = "local",
    zero_gamma: bool = True,
    weight_decay: float = WEIGHT_DECAY,
) -> keras.Model:
    """Return ResNet-101; arguments, result and errors as for `resnet50`."""
    return _large("ResNet101", classes, image, batch_norm, weight_decay, zero_gamma=zero_gamma)


def inception_v3(
    classes: int = 1000,
    *,
    image: Shape = (299, 299, 3),
    batch_norm: BatchNorm = "local",
    weight_decay: float = 4e-5,
) -> keras.Model:
    """Return Inception-v3 (Szegedy et al. 2015, arXiv:1512.00567), without its side output.

    Images are at least 75 pixels high and wide. The paper smooths labels by 0.1. The other
    arguments, the result and the errors are as for `resnet50`.
    """
    return _large("InceptionV3", classes, image, batch_norm, weight_decay)


def vgg16(
    classes: int = 1000, *, image: Shape = (224, 224, 3), weight_decay: float = 5e-4
) -> keras.Model:
    """Return VGG16 (Simonyan & Zisserman 2014, arXiv:1409.1556), of 138 million parameters.

    It has no batch norm, so it needs a tenth of a ResNet's learning rate; three quarters of
    its parameters are one dense layer. Arguments, result and errors as for `resnet50`.
    """
    return _large("VGG16", classes, image, "local", weight_decay)


def small_resnet(
    classes: int = 10,
    *,
    image: Shape = (32, 32, 3),
    width: int = 16,
    blocks: int = 1,
    batch_norm: BatchNorm = "local",
    zero_gamma: bool = True,
    weight_decay: float = WEIGHT_DECAY,
) -> keras.Model:
    """Return a ResNet of `6 x blocks + 2` layers for small images (He et al. 2015, 4.2).

    It trains in minutes on two cores, with the recipe of the large ones. Unlike the paper's,
    its first layer halves the image.

    Args:
        classes: Number of classes.
        image: Height, width (at least 8 each) and colours of an image.
        width: Channels of the first of three stages; each next one has twice as many.
        blocks: Residual blocks in a stage.
        batch_norm: As for `resnet50`.
        zero_gamma: As for `resnet50`.
        weight_decay: As for `resnet50`.

    Returns:
        As `resnet50`.

    Raises:
        EaiError: An invalid size, or an unknown option.

    Examples:
        >>> model = small_resnet()
        >>> model.output_shape, model.count_params()
        ((None, 10), 78714)
    """
    _check(classes, image, 8)
    if width < 1 or blocks < 1:
        raise EaiError(
            f"width is {width} and blocks is {blocks}",
            "use 1 or more of each",
            code="option-invalid",
        )
    inputs = keras.Input(image, name="image")
    values = _convolved(_scaled(inputs), width, "stem", strides=2)
    values = keras.layers.ReLU(name="stem_relu")(values)
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            name = f"stage{stage + 1}_block{block + 1}"
            values = _residual(values, width << stage, name, strides)
    values = keras.layers.GlobalAveragePooling2D(name="pool")(values)
    logits = keras.layers.Dense(classes, name="logits", dtype="float32")(values)
    return prepared(
        keras.Model(inputs, logits, name=f"small_resnet{6 * blocks + 2}"),
        batch_norm=batch_norm,
        weight_decay=weight_decay,
        zero_gamma=lambda name: zero_gamma and name.endswith("_2_bn"),
    )


def _large(
    name: str,
    classes: int,
    image: Shape,
    batch_norm: BatchNorm,
    weight_decay: float,
    *,
    zero_gamma: bool = False,
) -> keras.Model:
    _check(classes, image, _SMALLEST[name])
    build: Callable[..., keras.Model] = getattr(keras.applications, name)
    inputs = keras.Input(image, name="image")
    model = build(
        weights=None,
        input_tensor=_scaled(inputs),
        input_shape=image,
        classes=classes,
        classifier_activation=None,
    )
    # A block's layers are numbered, and its last one is the third.
    return prepared(
        keras.Model(inputs, model.outputs[0], name=model.name),
        batch_norm=batch_norm,
        weight_decay=weight_decay,
        zero_gamma=lambda layer: zero_gamma and layer.endswith("_3_bn"),
    )


def _scaled(pixels: Any) -> Any:
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scaled")(pixels)


def _convolved(values: Any, channels: int, name: str, *, strides: int = 1, side: int = 3) -> Any:
    convolution = keras.layers.Conv2D(
        channels, side, strides, padding="same", use_bias=False, name=f"{name}_conv"
    )
    return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(convolution(values))


def _residual(values: Any, channels: int, name: str, strides: int) -> Any:
    """Two convolutions beside a short cut, which is a convolution where the shape changes."""
    short = values
    if strides > 1:
        short = _convolved(values, channels, f"{name}_0", strides=strides, side=1)
    values = _convolved(values, channels, f"{name}_1", strides=strides)
    values = keras.layers.ReLU(name=f"{name}_1_relu")(values)
    values = _convolved(values, channels, f"{name}_2")
    return keras.layers.ReLU(name=f"{name}_relu")(
        keras.layers.Add(name=f"{name}_add")([short, values])
    )


def _check(classes: int, image: Shape, smallest: int) -> None:
    if classes < 1:
        raise EaiError(f"{classes} classes", "use 1 or more", code="option-invalid")
    if len(image) != 3 or min(image[:2]) < smallest or image[2] < 1:  # noqa: PLR2004 - a shape
        raise EaiError(
            f"the model does not accept images of shape {tuple(image)}",
            f"use (height, width, colours) of at least ({smallest}, {smallest}, 1)",
            code="option-invalid",
        )
