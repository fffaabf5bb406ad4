"""Crops of an image: random ones in each epoch, or the centre."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from eai_notebook.errors import EaiError

_TRIES: Final = 10
_TOLD_APART_BY: Final = 1024  # bytes at a file's end


class Box(NamedTuple):
    """A part of a picture, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


@dataclass(frozen=True)
class Views:
    """Draws what is cut out of each picture.

    For training, the recipe of Szegedy et al. 2014 (arXiv:1409.4842, section 6): 8 % to 100 % of
    the area, sides from 3:4 to 4:3, half of them mirrored. Otherwise the middle: the largest box
    of the result's shape, less an eighth on each side as in Krizhevsky et al. 2012.

    The same seed, epoch and bytes give the same view, on whatever rank and in whatever order.

    Attributes:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        augment: Draw a part, or take the middle.
        area: The least and largest share of the picture.
        ratio: The least and largest width divided by height.
        flip: Mirror every second picture; not for digits.
        middle: The share of the sides that the middle has.
        seed: What decides the views, together with the epoch.
        epoch: The epoch they are for.

    Examples:
        >>> Views(augment=False).box(400, 600, b"")
        Box(top=25, left=125, height=350, width=350, flip=False)
        >>> views = Views(seed=1)
        >>> views.box(400, 600, b"a") == views.box(400, 600, b"a") != views.box(400, 600, b"b")
        True
    """

    height: int = 224
    width: int = 224
    augment: bool = True
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    middle: float = 0.875
    seed: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise EaiError(
                f"views of {self.height} x {self.width} pixels",
                "give at least 1",
                code="option-invalid",
            )
        ranges: dict[str, Any] = {"area": self.area, "ratio": self.ratio}
        for name, (least, most) in ranges.items():
            if not 0 < least <= most or (name == "area" and most > 1):
                raise EaiError(
                    f"{name} is {least} to {most}",
                    "give the lesser one first, above 0",
                    code="option-invalid",
                )
        if not 0 < self.middle <= 1:
            raise EaiError(
                f"middle is {self.middle}", "give a share above 0, up to 1", code="option-invalid"
            )

    def box(self, height: int, width: int, encoded: Any) -> Box:
        """Return what to cut out of a picture of that size; `encoded` are its bytes."""
        if not self.augment:
            return self._middle(height, width, self.width / self.height, self.middle)
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
        # A picture much longer than wide may have no such part: then its middle.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        return self._middle(height, width, ratio, 1.0)._replace(flip=flip)

    def _seed_of(self, encoded: Any) -> str:
        about = len(encoded), zlib.crc32(bytes(encoded[-_TOLD_APART_BY:]))
        return f"{self.seed} {self.epoch} {about}"

    @staticmethod
    def _middle(height: int, width: int, ratio: float, share: float) -> Box:
        high = max(round(min(height, width / ratio) * share), 1)
        wide = max(round(min(width, height * ratio) * share), 1)
        return Box((height - high) // 2, (width - wide) // 2, high, wide)
