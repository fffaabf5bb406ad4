"""Random crops and flips as a Keras layer, for image augmentation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence


@keras.saving.register_keras_serializable(package="eai_notebook")
class RandomView(keras.layers.Layer):  # type: ignore[misc,unused-ignore]
    """Random crop of each image, mirrored at random and resized; outside training, resize only.

    The recipe of Szegedy et al. 2014 (arXiv:1409.4842, section 6): a crop of 8 % to 100 % of
    the image's area, with an aspect ratio from 3:4 to 4:3. A whole batch is cropped, mirrored and
    resized in one operation.

    Use it in the input, where it runs while the model computes, or as the first layer of a
    model, where it counts as compute and is saved with the model.

    Args:
        height: Of the result, pixels.
        width: Of the result, pixels.
        area: The smallest and largest area of the crop, as a share of the image.
        ratio: The smallest and largest aspect ratio (width / height) of the crop.
        flip: Mirror half of the images; not for digits.
        seed: Seed of the crops. Give each rank its own.
        kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        EaiError: A size below 1, or a range that is out of order.

    Examples:
        >>> views = RandomView(24, 24, seed=0)
        >>> views(tf.zeros((4, 32, 32, 3), tf.uint8), training=True).shape
        TensorShape([4, 24, 24, 3])

        In the input: ``data.map(lambda x, y: (views(x, training=True), y))``.
    """

    def __init__(
        self,
        height: int = 224,
        width: int = 224,
        *,
        area: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Pixels may be uint8; `call` converts them.
        super().__init__(autocast=False, **kwargs)
        if min(height, width) < 1 or not (0 < area[0] <= area[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise EaiError(
                f"views of {height} x {width} pixels, area {tuple(area)}, ratio {tuple(ratio)}",
                "use sizes of at least 1, and (smallest, largest) pairs with areas up to 1",
                code="option-invalid",
            )
        self.height, self.width = int(height), int(width)
        self.area, self.ratio = tuple(map(float, area)), tuple(map(float, ratio))
        self.flip = bool(flip)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> tf.Tensor:  # noqa: FBT001, FBT002 - Keras
        """Return float32 ``[batch, height, width, colours]`` of images ``[batch, ...]``."""
        if not training:
            return tf.image.resize(images, (self.height, self.width))
        rows = tf.shape(images)[0]
        return tf.image.crop_and_resize(
            tf.cast(images, tf.float32),
            self._boxes(rows, images.shape),
            tf.range(rows),
            (self.height, self.width),
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return the shape of the result."""
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the layer's arguments."""
        own = ("height", "width", "area", "ratio", "flip", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _boxes(self, rows: tf.Tensor, shape: Any) -> tf.Tensor:
        """Return top, left, bottom and right of each crop as shares, mirrored if so drawn."""
        area, log_ratio, down, right, mirrored = (
            self._uniform(rows, low, high)
            for low, high in (self.area, map(math.log, self.ratio), (0, 1), (0, 1), (0, 1))
        )
        # Convert the aspect ratio from pixels to shares of the image's sides.
        ratio = tf.exp(log_ratio) * (shape[1] / shape[2])
        height = tf.minimum(tf.sqrt(area / ratio), 1.0)
        width = tf.minimum(tf.sqrt(area * ratio), 1.0)
        top, left = down * (1 - height), right * (1 - width)
        sides = tf.stack([top, left, top + height, left + width], axis=1)
        if not self.flip:
            return sides
        return tf.where(mirrored[:, None] < 0.5, sides, tf.gather(sides, [0, 3, 2, 1], axis=1))  # noqa: PLR2004 - one half

    def _uniform(self, rows: tf.Tensor, low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform((rows,), self.seed_generator.next(), low, high)
