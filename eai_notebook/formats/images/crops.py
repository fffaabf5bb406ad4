"""Crops of an image: random ones in each epoch, or the centre."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from eai_notebook.errors import EaiError

_TRIES: Final = 10
_HASHED_BYTES: Final = 1024  # at a file's end; they seed its crops


class Box(NamedTuple):
    """A crop of an image, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


@dataclass(frozen=True)
class CropSampler:
    """Draws a crop of each image.

    For training, the recipe of Szegedy et al. 2014 (arXiv:1409.4842, section 6): 8 % to 100 % of
    the area, aspect ratios from 3:4 to 4:3, half of them mirrored. Otherwise a center crop: 7/8 of
    the largest box with the result's aspect ratio, as in Krizhevsky et al. 2012.

    The same seed, epoch and bytes give the same crop, independent of rank and order.

    Attributes:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        augment: Draw random crops; False for the center crop.
        area: The smallest and largest share of the image's area.
        ratio: The smallest and largest aspect ratio, width / height.
        flip: Mirror half of the images; not for digits.
        center: The center crop's share of each side.
        seed: Determines the crops, together with the epoch.
        epoch: The epoch that the crops are for.

    Examples:
        >>> CropSampler(augment=False).box(400, 600, b"")
        Box(top=25, left=125, height=350, width=350, flip=False)
        >>> crops = CropSampler(seed=1)
        >>> crops.box(400, 600, b"a") == crops.box(400, 600, b"a") != crops.box(400, 600, b"b")
        True
    """

    height: int = 224
    width: int = 224
    augment: bool = True
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    center: float = 0.875
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise EaiError(
                f"crops have a size of {self.height} x {self.width} pixels",
                "give at least 1 x 1",
                code="option-invalid",
            )
        ranges: dict[str, Any] = {"area": self.area, "ratio": self.ratio}
        for name, (least, most) in ranges.items():
            if not 0 < least <= most or (name == "area" and most > 1):
                raise EaiError(
                    f"{name} is {least} to {most}",
                    "give the smaller number first, above 0; an area of at most 1",
                    code="option-invalid",
                )
        if not 0 < self.center <= 1:
            raise EaiError(
                f"center is {self.center}",
                "give a share above 0 and at most 1",
                code="option-invalid",
            )

    def box(self, height: int, width: int, encoded: Any) -> Box:
        """Return the crop of an image of that size; its encoded bytes seed the choice."""
        if not self.augment:
            return self._center(height, width, self.width / self.height, self.center)
        drawn = random.Random(self._seed_of(encoded))  # noqa: S311 - no secret
        flip = self.flip and drawn.random() < 0.5  # noqa: PLR2004 - every second one
        lowest, highest = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = drawn.uniform(*self.area) * height * width
            ratio = math.exp(drawn.uniform(lowest, highest))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                top, left = drawn.randint(0, height - high), drawn.randint(0, width - wide)
                return Box(top, left, high, wide, flip)
        # A very long or wide image may have no such crop: take its center.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return self._center(height, width, ratio, 1.0)._replace(flip=flip)

    def _seed_of(self, encoded: Any) -> str:
        digest = len(encoded), zlib.crc32(bytes(encoded[-_HASHED_BYTES:]))
        return f"{self.seed} {self.epoch} {digest}"

    @staticmethod
    def _center(height: int, width: int, ratio: float, share: float) -> Box:
        high = max(round(min(height, width / ratio) * share), 1)
        wide = max(round(min(width, height * ratio) * share), 1)
        return Box((height - high) // 2, (width - wide) // 2, high, wide)
