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
    """While training: a random crop of each picture, perhaps mirrored, at a given size.

    The recipe of Szegedy et al. 2014 (arXiv:1409.4842, section 6): a crop of 8 % to 100 % of
    the picture's area, with sides from 3:4 to 4:3. Cut, mirrored and resized in one step for
    a whole batch. When not training, the whole picture is resized.

    Put it into the input, where it is done while the model computes, or in front of a model,
    where it counts as compute and is saved with it.

    Args:
        height: Of the result, pixels.
        width: Of the result, pixels.
        area: The least and largest share of the picture.
        ratio: The least and largest width divided by height, of what is cut out.
        flip: Mirror every second picture; not for digits.
        seed: Of the views. Give each rank its own.
        kwargs: What `keras.layers.Layer` takes.

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
        # Pixels may be uint8: what becomes of them is decided in `call`.
        super().__init__(autocast=False, **kwargs)
        if min(height, width) < 1 or not (0 < area[0] <= area[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise EaiError(
                f"views of {height} x {width} pixels, area {tuple(area)}, ratio {tuple(ratio)}",
                "give sizes from 1 on, and for the others (least, largest), areas up to 1",
            )
        self.height, self.width = int(height), int(width)
        self.area, self.ratio = tuple(map(float, area)), tuple(map(float, ratio))
        self.flip = bool(flip)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> tf.Tensor:  # noqa: FBT001, FBT002 - Keras
        """Return float32 ``[batch, height, width, colours]`` of any ``[batch, ...]`` pictures."""
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
        """Return the arguments this layer was made with."""
        own = ("height", "width", "area", "ratio", "flip", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _boxes(self, rows: tf.Tensor, shape: Any) -> tf.Tensor:
        """Return top, left, bottom and right of each crop as shares, mirrored if so drawn."""
        area, log_ratio, down, right, mirrored = (
            self._uniform(rows, low, high)
            for low, high in (self.area, map(math.log, self.ratio), (0, 1), (0, 1), (0, 1))
        )
        # What is square in pixels is not square as shares of a picture that is not.
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
