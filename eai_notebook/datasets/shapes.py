"""Generate images of shapes: the class is a silhouette and its filling.

Real photographs cannot say why a model errs, nor how good one could become. Here the class
decides two things, the outline and what fills it. Place, size, rotation, colours, background,
a second blob and noise are drawn apart from it, so that none of them gives it away; and a share
of wrong labels, drawn too, bounds what any model can reach on average.
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
FILLINGS: Final = ("solid", "striped", "checked", "dotted")
MOST_CLASSES: Final = len(SILHOUETTES) * len(FILLINGS)

_EDGE: Final = 0.06  # width of an outline's soft edge, in units of the silhouette
_TOGETHER: Final = 1 << 22  # pixels drawn at once: tens of megabytes
_CONTRAST: Final = (0.25, 0.6)  # how much lighter a silhouette is than its background
_TURN: Final = np.pi / 6  # at most, to either side


@dataclass(frozen=True)
class Pictures:
    """Pictures as drawn.

    Attributes:
        images: uint8 ``[rows, size, size, 3]``.
        labels: int32 ``[rows]``, what is written beside a picture.
        drawn: int32 ``[rows]``, what is in it: other than the label where that is wrong.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    drawn: NDArray[np.int32]


@dataclass(frozen=True)
class PlantedPictures:
    """Draws pictures; everything about them follows from the seed and the part's number.

    Args:
        classes: How many, from 2 to `MOST_CLASSES`. Class k is silhouette ``k % 8`` with
            filling ``k // 8``.
        size: Height and width in pixels.
        seed: Another seed draws other pictures of the same classes.
        label_noise: Share of pictures whose label is drawn anew from all classes.
        nuisance: How strong noise and background are; 0 is a clean shape on one colour.

    Raises:
        EaiError: A number makes no sense.

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
        if not 2 <= self.classes <= MOST_CLASSES:  # noqa: PLR2004 - one class is no choice
            raise EaiError(
                f"{self.classes} classes", f"give 2 to {MOST_CLASSES}", code="option-invalid"
            )
        if self.size < 8:  # noqa: PLR2004 - below, the fillings cannot be told apart
            raise EaiError(
                f"pictures of {self.size} pixels", "give at least 8", code="option-invalid"
            )
        if not 0 <= self.label_noise <= 1 or self.nuisance < 0 or self.seed < 0:
            raise EaiError(
                f"label_noise {self.label_noise}, nuisance {self.nuisance}, seed {self.seed}",
                "give a share from 0 to 1 as noise, and 0 or more for the others",
                code="option-invalid",
            )

    @property
    def names(self) -> list[str]:
        """The classes' names, such as ``striped-ring``."""
        shapes = len(SILHOUETTES)
        return [
            f"{FILLINGS[label // shapes]}-{SILHOUETTES[label % shapes]}"
            for label in range(self.classes)
        ]

    @property
    def best_top1(self) -> float:
        """The top-1 accuracy that seeing every picture rightly has, on average."""
        return 1 - self.label_noise * (self.classes - 1) / self.classes

    def draw(self, part: int, rows: int) -> Pictures:
        """Return the first `rows` pictures of a part; parts have nothing in common."""
        batches = list(self.batches(part, rows))
        return Pictures(
            np.concatenate([batch.images for batch in batches]),
            np.concatenate([batch.labels for batch in batches]),
            np.concatenate([batch.drawn for batch in batches]),
        )

    def batches(self, part: int, rows: int) -> Iterator[Pictures]:
        """Yield what `draw` returns, in pieces of some megabytes."""
        if rows < 1:
            raise EaiError(f"{rows} pictures", "give at least 1", code="option-invalid")
        rng = np.random.default_rng([self.seed, part])
        # All that is not a pixel comes first, so that fewer rows are the first of more.
        drawn = rng.integers(0, self.classes, rows, dtype=np.int32)
        wrong = rng.random(rows) < self.label_noise
        labels = np.where(wrong, rng.integers(0, self.classes, rows, dtype=np.int32), drawn)
        together = max(_TOGETHER // self.size**2, 1)
        for first in range(0, rows, together):
            some = slice(first, first + together)
            images = _render(drawn[some], self.size, self.nuisance, rng)
            yield Pictures(images, labels[some].astype(np.int32), drawn[some])


def _render(
    drawn: NDArray[np.int32], size: int, nuisance: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return one picture, uint8 ``[rows, size, size, 3]``, for each class in `drawn`."""
    rows = len(drawn)
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.broadcast_arrays(axis[None, None, :], axis[None, :, None])
    shape, filling = drawn % len(SILHOUETTES), drawn // len(SILHOUETTES)
    radius = rng.uniform(0.5, 0.8, rows)
    u, v = _turned(x, y, rng.uniform(-1, 1, (2, rows)) * (1 - radius), radius, rng)
    cover = np.empty((rows, size, size), np.float32)
    for number, inside in enumerate(_OUTLINES):
        ours = shape == number
        cover[ours] = np.clip(0.5 - inside(u[ours], v[ours]) / _EDGE, 0, 1)
    for number, pattern in enumerate(_PATTERNS):
        ours = filling == number
        cover[ours] *= pattern(u[ours], v[ours])
    front, back = _colours(rows, rng)
    images = back + _background(x, y, rows, nuisance, rng)
    blob = _blob(x, y, rows, rng)[..., None] * min(nuisance, 1)
    images += blob * (rng.random((rows, 1, 1, 3), np.float32) * 0.9 - images)
    images += cover[..., None] * (front - images)
    images += rng.standard_normal(images.shape, np.float32) * (0.1 * nuisance)
    light = rng.uniform(0.75, 1.25, (rows, 1, 1, 1)).astype(np.float32)
    return np.asarray(np.clip(images * light, 0, 1) * 255 + 0.5, np.uint8)


def _turned(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each pixel's place in its silhouette's own coordinates, ``[rows, size, size]``."""
    angle = rng.uniform(-_TURN, _TURN, len(radius))
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
    # Of any hue, but lighter in the mean of its three channels by what is drawn.
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
    """Return a wave across the picture, ``[rows, size, size, 3]``."""
    wave = rng.uniform(-6, 6, (2, rows)).astype(np.float32)[:, :, None, None]
    phase = rng.uniform(0, 6.3, (rows, 1, 1)).astype(np.float32)
    height = rng.uniform(-0.15, 0.15, (rows, 1, 1, 3)).astype(np.float32) * nuisance
    return np.asarray(np.sin(wave[0] * x + wave[1] * y + phase)[..., None] * height)


def _blob(
    x: NDArray[np.float32], y: NDArray[np.float32], rows: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return how much of a pixel a stray blob behind the silhouette covers."""
    left, up = rng.uniform(-1, 1, (2, rows, 1, 1)).astype(np.float32)
    wide = rng.uniform(0.1, 0.35, (rows, 1, 1)).astype(np.float32)
    return np.asarray(np.clip((wide - np.hypot(x - left, y - up)) / _EDGE, 0, 1))


# ------------------------------------------------------------------ outlines and fillings


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
"""By silhouette: below 0 inside, above 0 outside; a silhouette fits the circle of radius 1."""

_WAVES: Final = np.float32(9)
_DOTS: Final = 0.9  # the lower, the larger the holes

_PATTERNS: Final[tuple[Callable[[Any, Any], NDArray[np.float32]], ...]] = (
    lambda u, v: np.ones_like(u),  # noqa: ARG005 - the fillings' common shape
    lambda u, v: (np.sin(_WAVES * v) > 0).astype(np.float32),  # noqa: ARG005
    lambda u, v: (np.sin(_WAVES * u) * np.sin(_WAVES * v) > 0).astype(np.float32),
    lambda u, v: (np.cos(_WAVES * u) + np.cos(_WAVES * v) < _DOTS).astype(np.float32),
)
"""By filling: how much of the silhouette's colour is there."""
