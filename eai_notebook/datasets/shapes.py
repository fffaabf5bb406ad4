"""`PlantedPictures`: generate images of shapes, whose class is a silhouette and its fill.

For photographs, the best possible accuracy is unknown. Here the class determines only outline and
fill. Position, size, rotation, colours, background, a second blob and noise are independent of it,
and a share of random labels bounds the accuracy that any model can reach on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SILHOUETTES: Final = (
    "disc", "square", "triangle", "plus", "ring", "star", "crescent", "clover",
)  # fmt: skip
FILLS: Final = ("solid", "striped", "checked", "dotted")
MAX_CLASSES: Final = len(SILHOUETTES) * len(FILLS)

_EDGE: Final = 0.06  # width of an outline's soft edge, in units of the silhouette
_PIXELS_PER_BATCH: Final = 1 << 22  # some tens of megabytes
_CONTRAST: Final = (0.25, 0.6)  # a silhouette is lighter than its background by this range
_MAX_ROTATION: Final = np.pi / 6  # in either direction


@dataclass(frozen=True)
class Pictures:
    """Generated images.

    Attributes:
        images: uint8 ``[rows, size, size, 3]``.
        labels: int32 ``[rows]``, the labels, of which a share is wrong.
        drawn: int32 ``[rows]``, the true classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    drawn: NDArray[np.int32]


@dataclass(frozen=True)
class PlantedPictures:
    """Draws images of shapes; the seed and the part's number determine them.

    Args:
        classes: The number of classes, from 2 to `MAX_CLASSES`. Class k is silhouette ``k % 8``
            with fill ``k // 8``.
        size: Height and width in pixels.
        seed: Another seed draws other images of the same classes.
        label_noise: The share of images whose label is drawn from all classes at random.
        nuisance: Strength of noise and background; 0 is a clean shape on one colour.

    Raises:
        EaiError: A number is out of range.

    Examples:
        >>> pictures = PlantedPictures(classes=10, size=32).draw(part=0, rows=4)
        >>> pictures.images.shape, pictures.labels.tolist()
        ((4, 32, 32, 3), [8, 6, 5, 2])
        >>> PlantedPictures(classes=10, label_noise=0.1).best_top1
        0.91
    """

    classes: int = 10
    size: int = 32
    seed: int = 0
    label_noise: float = 0.0
    nuisance: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= MAX_CLASSES:  # noqa: PLR2004 - one class is no choice
            raise EaiError(
                f"the number of classes is {self.classes}",
                f"use 2 to {MAX_CLASSES}",
                code="option-invalid",
            )
        if self.size < 8:  # noqa: PLR2004 - in smaller images, the fills look alike
            raise EaiError(
                f"the size of the images is {self.size} pixels",
                "use at least 8",
                code="option-invalid",
            )
        if not 0 <= self.label_noise <= 1 or self.nuisance < 0 or self.seed < 0:
            raise EaiError(
                f"label_noise is {self.label_noise}, nuisance is {self.nuisance}, seed is "
                f"{self.seed}",
                "use a label_noise from 0 to 1, and 0 or more for the others",
                code="option-invalid",
            )

    @property
    def names(self) -> list[str]:
        """The classes' names, such as ``striped-ring``."""
        shapes = len(SILHOUETTES)
        return [
            f"{FILLS[label // shapes]}-{SILHOUETTES[label % shapes]}"
            for label in range(self.classes)
        ]

    @property
    def best_top1(self) -> float:
        """The expected top-1 accuracy of a model that recognizes every image."""
        return 1 - self.label_noise * (self.classes - 1) / self.classes

    def draw(self, part: int, rows: int) -> Pictures:
        """Return the first `rows` images of a part; parts are independent of each other."""
        batches = list(self.batches(part, rows))
        return Pictures(
            np.concatenate([batch.images for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
            np.concatenate([batch.drawn for batch in batches]),
        )

    def batches(self, part: int, rows: int) -> Iterator[Pictures]:
        """Yield the result of `draw` in batches of some megabytes."""
        if rows < 1:
            raise EaiError(
                f"the number of images is {rows}", "use at least 1", code="option-invalid"
            )
        rng = np.random.default_rng([self.seed, part])
        # Everything except pixels is drawn first, so that fewer rows are a prefix of more.
        drawn = rng.integers(0, self.classes, rows, dtype=np.int32)
        wrong = rng.random(rows) < self.label_noise
        labels = np.where(wrong, rng.integers(0, self.classes, rows, dtype=np.int32), drawn)
        batch = max(_PIXELS_PER_BATCH // self.size**2, 1)
        for first in range(0, rows, batch):
            some = slice(first, first + batch)
            images = _render(drawn[some], self.size, self.nuisance, rng)
            yield Pictures(images, labels[some].astype(np.int32), drawn[some])


def _render(
    drawn: NDArray[np.int32], size: int, nuisance: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return one image, uint8 ``[rows, size, size, 3]``, for each class in `drawn`."""
    rows = len(drawn)
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.broadcast_arrays(axis[None, None, :], axis[None, :, None])
    shape, fill = drawn % len(SILHOUETTES), drawn // len(SILHOUETTES)
    radius = rng.uniform(0.5, 0.8, rows)
    u, v = _shape_coordinates(x, y, rng.uniform(-1, 1, (2, rows)) * (1 - radius), radius, rng)
    cover = np.empty((rows, size, size), np.float32)
    for number, inside in enumerate(_OUTLINES):
        selected = shape == number
        cover[selected] = np.clip(0.5 - inside(u[selected], v[selected]) / _EDGE, 0, 1)
    for number, pattern in enumerate(_PATTERNS):
        selected = fill == number
        cover[selected] *= pattern(u[selected], v[selected])
    front, back = _colours(rows, rng)
    images = back + _background(x, y, rows, nuisance, rng)
    blob = _blob(x, y, rows, rng)[..., None] * min(nuisance, 1)
    images += blob * (rng.random((rows, 1, 1, 3), np.float32) * 0.9 - images)
    images += cover[..., None] * (front - images)
    images += rng.standard_normal(images.shape, np.float32) * (0.1 * nuisance)
    light = rng.uniform(0.75, 1.25, (rows, 1, 1, 1)).astype(np.float32)
    return np.asarray(np.clip(images * light, 0, 1) * 255 + 0.5, np.uint8)


def _shape_coordinates(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each pixel's coordinates in the frame of its silhouette, ``[rows, size, size]``."""
    angle = rng.uniform(-_MAX_ROTATION, _MAX_ROTATION, len(radius))
    left, up, scale, cosine, sine = (
        values.astype(np.float32)[:, None, None]
        for values in (*centre, radius, np.cos(angle), np.sin(angle))
    )
    across, along = (x - left) / scale, (y - up) / scale
    return across * cosine + along * sine, along * cosine - across * sine


def _colours(
    rows: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return colours for silhouette and background, the lighter one first, ``[rows, 1, 1, 3]``."""
    back = rng.uniform(0.1, 0.5, (rows, 1, 1, 3))
    # Any hue, but the mean of the three channels is lighter by a random amount.
    hue = rng.uniform(-0.2, 0.2, (rows, 1, 1, 3))
    lighter = rng.uniform(*_CONTRAST, (rows, 1, 1, 1))
    front = back + lighter + hue - hue.mean(axis=-1, keepdims=True)
    return front.astype(np.float32), back.astype(np.float32)


def _background(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    rows: int,
    nuisance: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a wave across the image, ``[rows, size, size, 3]``."""
    wave = rng.uniform(-6, 6, (2, rows)).astype(np.float32)[:, :, None, None]
    phase = rng.uniform(0, 6.3, (rows, 1, 1)).astype(np.float32)
    height = rng.uniform(-0.15, 0.15, (rows, 1, 1, 3)).astype(np.float32) * nuisance
    return np.asarray(np.sin(wave[0] * x + wave[1] * y + phase)[..., None] * height)


def _blob(
    x: NDArray[np.float32], y: NDArray[np.float32], rows: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the share of each pixel that a blob behind the silhouette covers."""
    left, up = rng.uniform(-1, 1, (2, rows, 1, 1)).astype(np.float32)
    wide = rng.uniform(0.1, 0.35, (rows, 1, 1)).astype(np.float32)
    return np.asarray(np.clip((wide - np.hypot(x - left, y - up)) / _EDGE, 0, 1))


# ------------------------------------------------------------------ outlines and fills


def _polygon(u: NDArray[np.float32], v: NDArray[np.float32], corners: int) -> NDArray[np.float32]:
    sides = [2 * np.pi * side / corners for side in range(corners)]
    return np.asarray(
        np.maximum.reduce([np.float32(np.cos(a)) * u + np.float32(np.sin(a)) * v for a in sides])
    )


def _petals(
    u: NDArray[np.float32], v: NDArray[np.float32], number: int, depth: float
) -> NDArray[np.float32]:
    return np.asarray(
        np.hypot(u, v) - (1 - depth) - np.float32(depth) * np.cos(number * np.arctan2(v, u))
    )


_OUTLINES: Final[tuple[Callable[[Any, Any], NDArray[np.float32]], ...]] = (
    lambda u, v: np.hypot(u, v) - 0.9,
    lambda u, v: _polygon(u, v, 4) - 0.78,
    lambda u, v: _polygon(u, v, 3) - 0.55,
    lambda u, v: np.minimum(
        np.maximum(np.abs(u) - 0.3, np.abs(v) - 0.95), np.maximum(np.abs(v) - 0.3, np.abs(u) - 0.95)
    ),
    lambda u, v: np.abs(np.hypot(u, v) - 0.7) - 0.22,
    lambda u, v: _petals(u, v, 5, 0.3),
    lambda u, v: np.maximum(np.hypot(u, v) - 0.95, 0.75 - np.hypot(u - 0.45, v)),
    lambda u, v: _petals(u, v, 3, 0.3),
)
"""By silhouette: negative inside, positive outside; a silhouette fits into the unit circle."""

_WAVES: Final = np.float32(9)
_DOTS: Final = 0.9  # a lower value makes larger holes

_PATTERNS: Final[tuple[Callable[[Any, Any], NDArray[np.float32]], ...]] = (
    lambda u, v: np.ones_like(u),  # noqa: ARG005 - all fills have this signature
    lambda u, v: (np.sin(_WAVES * v) > 0).astype(np.float32),  # noqa: ARG005
    lambda u, v: (np.sin(_WAVES * u) * np.sin(_WAVES * v) > 0).astype(np.float32),
    lambda u, v: (np.cos(_WAVES * u) + np.cos(_WAVES * v) < _DOTS).astype(np.float32),
)
"""By fill: the share of the silhouette's colour in each pixel."""
