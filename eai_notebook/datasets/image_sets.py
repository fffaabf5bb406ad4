"""`make_pictures`: generate image data sets as files, of shapes or of real digits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.datasets.atomic_folder import is_free, whole_folder
from eai_notebook.datasets.image_layouts import LAYOUTS, write_folders, write_records
from eai_notebook.datasets.shapes import PlantedPictures
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from eai_notebook.datasets.image_layouts import LabeledImage

TRUTH: Final = "truth.json"
KINDS: Final = ("planted", "digits")
_TEST_SHARE: Final = 8  # one image in eight is held out
_VAL, _TRAIN = 0, 1  # parts of the generated shapes
_WHITE: Final = 16  # the largest value of a digit's pixel


@dataclass(frozen=True)
class PictureTruth:
    """The description of a data set, stored beside it as ``truth.json``.

    Attributes:
        kind: ``"planted"`` or ``"digits"``.
        layout: ``"folders"`` or ``"tfrecord"``.
        classes: The classes' names, in the order of their numbers; folders sort in this order.
        size: Height and width in pixels.
        train: Training images.
        val: Held-out images.
        shards: Files with training records; 0 for folders.
        seed: The seed of all random numbers.
        label_noise: The share of labels that are drawn at random.
        best_top1: The expected top-1 accuracy of a model that recognizes every image.
        version: The version of the generator.
    """

    kind: str
    layout: str
    classes: list[str]
    size: int
    train: int
    val: int
    shards: int
    seed: int
    label_noise: float
    best_top1: float
    version: int = 1


def make_pictures(  # noqa: PLR0913 - options, all but the first by name
    folder: str | os.PathLike[str],
    *,
    kind: str = "planted",
    layout: str = "folders",
    pictures: int = 4096,
    classes: int = 10,
    size: int = 64,
    seed: int = 0,
    label_noise: float = 0.0,
    shards: int = 8,
    progress: Callable[[int], None] | None = None,
) -> PictureTruth:
    """Write a set of images as JPEG files or as records, in ImageNet's layouts.

    One image in eight is held out. The folder appears when it is complete; if it already holds this
    set, nothing is written. `eai.io.images` reads folders, `eai.io.imagenet` reads records.

    Args:
        folder: The target; created if it does not exist.
        kind: ``"planted"``, see `eai_notebook.datasets.shapes`; or ``"digits"``, enlarged from the
            1797 handwritten digits of 8 x 8 grey pixels in scikit-learn.
        layout: ``"folders"``, one a class, or ``"tfrecord"``; see
            `eai_notebook.datasets.image_layouts`.
        pictures: The number of images; at most 1797 digits.
        classes: The number of classes of shapes; digits have ten.
        size: Height and width in pixels.
        seed: Draws the shapes; of the digits, those that are held out.
        label_noise: The share of labels of shapes that are drawn at random.
        shards: Files with training records.
        progress: Called with the number of images just written.

    Raises:
        EaiError: An argument has an invalid value, scikit-learn is missing, or the folder holds
            something else or cannot be written.

    Examples:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> truth = make_pictures(home / "set", pictures=16, classes=2, size=16)
        >>> truth.train, truth.val, sorted(path.name for path in (home / "set" / "train").iterdir())
        (14, 2, ['00-solid-disc', '01-solid-square'])
    """
    target = Path(folder)
    _check_options(kind, layout, pictures, shards, seed)
    source = (
        _ShapeSet(PlantedPictures(classes, size, seed, label_noise), pictures)
        if kind == "planted"
        else _DigitSet(pictures, size, seed)
    )
    truth = PictureTruth(
        kind=kind,
        layout=layout,
        classes=source.names,
        size=size,
        train=source.train,
        val=source.val,
        shards=shards if layout == "tfrecord" else 0,
        seed=seed,
        label_noise=label_noise if kind == "planted" else 0.0,
        best_top1=source.best_top1,
    )
    report = progress or (lambda _: None)
    if _exists_already(target, truth):
        report(truth.train + truth.val)
        return truth
    with whole_folder(target) as work:
        _write_parts(work, source, truth, report)
        (work / TRUTH).write_text(json.dumps(asdict(truth), indent=2) + "\n")
    return truth


def _check_options(kind: str, layout: str, pictures: int, shards: int, seed: int) -> None:
    if kind not in KINDS or layout not in LAYOUTS:
        raise EaiError(
            f"kind is {kind!r} and layout is {layout!r}",
            f"use one of {', '.join(KINDS)} and one of {', '.join(LAYOUTS)}",
            code="option-invalid",
        )
    if pictures < _TEST_SHARE or shards < 1 or seed < 0:
        raise EaiError(
            f"{pictures} pictures in {shards} shards with seed {seed}",
            f"use at least {_TEST_SHARE} pictures, 1 shard and a seed of 0 or more",
            code="option-invalid",
        )


def _write_parts(
    folder: Path,
    source: _ShapeSet | _DigitSet,
    truth: PictureTruth,
    report: Callable[[int], None],
) -> None:
    for part in ("train", "val"):
        drawn = source.part(part)
        written = (
            write_folders(folder, part, drawn, truth.classes)
            if truth.layout == "folders"
            else write_records(
                folder, part, drawn, truth.classes, truth.shards if part == "train" else 1
            )
        )
        for count in written:
            report(count)


def _exists_already(target: Path, truth: PictureTruth) -> bool:
    """Return whether `target` holds exactly this set; False if it is free."""
    if is_free(target):
        return False
    stored = target / TRUTH
    if stored.is_file() and stored.read_text() == json.dumps(asdict(truth), indent=2) + "\n":
        return True
    raise EaiError(
        f"{target} already holds something else",
        "choose another folder, or delete this one",
        code="folder-not-empty",
    )


class _ShapeSet:
    """Generated shapes, in batches of some megabytes."""

    def __init__(self, shapes: PlantedPictures, pictures: int) -> None:
        self._shapes = shapes
        self.val = pictures // _TEST_SHARE
        self.train = pictures - self.val
        # With numbers, so that folders sort in the order of the classes.
        self.names = [f"{number:02d}-{name}" for number, name in enumerate(shapes.names)]
        self.best_top1 = shapes.best_top1

    def part(self, name: str) -> Iterator[LabeledImage]:
        part, rows = (_TRAIN, self.train) if name == "train" else (_VAL, self.val)
        for batch in self._shapes.batches(part, rows):
            yield from zip(batch.images, batch.labels.tolist(), strict=True)


class _DigitSet:
    """Scikit-learn's digits, shuffled and enlarged."""

    best_top1 = 1.0

    def __init__(self, pictures: int, size: int, seed: int) -> None:
        if size < 8:  # noqa: PLR2004 - the original size
            raise EaiError(
                f"the size of the digits is {size} pixels",
                "use at least 8",
                code="option-invalid",
            )
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise EaiError(
                "the digits are in scikit-learn, which is not installed",
                "pip install 'eai_notebook[baselines]', or use kind=\"planted\"",
                code="package-missing",
            ) from error
        grey, labels = load_digits(return_X_y=True)
        chosen = np.random.default_rng(seed).permutation(len(labels))[:pictures]
        self._grey: NDArray[np.float64] = grey[chosen].reshape(-1, 8, 8)
        self._labels: list[int] = labels[chosen].tolist()
        self._size = size
        self.val = len(chosen) // _TEST_SHARE
        self.train = len(chosen) - self.val
        self.names = [str(digit) for digit in range(10)]

    def part(self, name: str) -> Iterator[LabeledImage]:
        from PIL import Image

        rows = range(self.val, len(self._labels)) if name == "train" else range(self.val)
        for row in rows:
            pixels = np.round(self._grey[row] * (255 / _WHITE)).astype(np.uint8)
            larger = Image.fromarray(pixels).resize(
                (self._size, self._size), Image.Resampling.BICUBIC
            )
            yield np.asarray(larger), self._labels[row]
