"""`images` and `imagenet`: read folders of images, and ImageNet's records.

A picture becomes what a model sees of it in the reader's thread: decoding, cutting and resizing
leave the interpreter alone.
"""

from __future__ import annotations

import os
import random
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.formats.images.crops import Views
from eai_notebook.formats.open_files import open_files
from eai_notebook.io.part import Source
from eai_notebook.io.pipeline.open_batches import check_options, open_batches
from eai_notebook.io.sources.find import MANIFEST, Pattern, find_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
TOGETHER: Final = 16
"""Pictures that one reader fetches and decodes at a time."""


def images(  # noqa: PLR0913 - options, all but the first two by name
    folder: Pattern,
    batch_size: int,
    *,
    height: int = 224,
    width: int = 224,
    augment: bool = True,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    classes: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> InputData:
    """Open pictures that lie in one folder a class as this rank's batches, ready for `fit`.

    Every rank reads as many files, and all ranks together every file exactly once. Needs
    ``pip install 'eai_notebook[images]'``. In a group, all ranks must call this together.

    Args:
        folder: The folder of the classes' folders; or a glob of files, or a list of them, each
            in a folder named like its class. Paths or URLs. JPEG files; PNG are read, too.
        batch_size: Pictures in each of this rank's batches.
        height: Of what the model sees, in pixels.
        width: Of what the model sees, in pixels.
        augment: A random part of each picture, perhaps mirrored, another one each epoch; False
            for the middle: to measure on held-out pictures.
        area: The least and largest share of a picture that a random part has.
        ratio: The least and largest width divided by height of a random part.
        flip: Mirror every second picture; not for digits.
        classes: The names of the classes in order; None for those of the folders, sorted.
        **options: See `eai_notebook.formats.open_files.Options`.

    Returns:
        Batches of ``({"image": uint8 [batch, height, width, 3]}, int64 [batch, 1])``: pixels
        from 0 to 255, red first, and the number of the class.

    Raises:
        EaiError: No such file, a class that is not among `classes`, a library that is missing;
            while reading, a picture that is none, named.
    """
    from eai_notebook.formats.images.image_parts import ImagePart, spec_of

    checked = {"shuffle", "seed", "shard"}
    check_options(batch_size, **{k: v for k, v in options.items() if k not in checked})  # type: ignore[arg-type]
    seed = options.get("seed", 0)
    views = Views(height, width, augment, area, ratio, flip, seed=seed)
    files = _found(folder)
    known = list(classes) if classes is not None else sorted({_class_of(file) for file in files})
    numbers = {name: number for number, name in enumerate(known)}
    for file in files:
        if _class_of(file) not in numbers:
            raise EaiError(
                f"{file} lies in a folder {_class_of(file)!r}, which is no class",
                f"move it, or name the class in `classes` (now {len(numbers)})",
                code="image-class-unknown",
            )
    collective.ensure_formed()
    rank, size = (collective.rank(), collective.size()) if options.get("shard", True) else (0, 1)
    if options.get("shuffle", True):
        # By class they would be together for ever: what is fetched together is mixed once.
        random.Random(seed).shuffle(files)  # noqa: S311 - no secret
    mine = files[rank::size]
    parts = [
        ImagePart(
            tuple(mine[begin : begin + TOGETHER]),
            tuple(numbers[_class_of(file)] for file in mine[begin : begin + TOGETHER]),
            views,
        )
        for begin in range(0, len(mine), TOGETHER)
    ]
    seen = sum(file.size for file in files)
    source = Source("image", parts, spec_of(views), len(files), seen)
    return open_batches(source, batch_size, **options)


def imagenet(  # noqa: PLR0913 - options, all but the first two by name
    pattern: Pattern,
    batch_size: int,
    *,
    height: int = 224,
    width: int = 224,
    augment: bool = True,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    encoded: str = "image/encoded",
    label: str = "image/class/label",
    first_label: int = 1,
    **options: Unpack[Options],
) -> InputData:
    """Open TFRecord files of pictures, as ImageNet is mostly kept, as batches for `fit`.

    Every rank reads an equal part of the bytes; every checksum is checked. Arguments and
    batches are otherwise those of `images`.

    Args:
        pattern: The files, of any suffix: a glob, a folder, a list; paths or URLs.
        batch_size: Pictures in each of this rank's batches.
        height: Of what the model sees, in pixels.
        width: Of what the model sees, in pixels.
        augment: A random part of each picture, or the middle.
        area: The least and largest share of a picture that a random part has.
        ratio: The least and largest width divided by height of a random part.
        flip: Mirror every second picture.
        encoded: The feature with a picture's bytes.
        label: The feature with its class, a whole number.
        first_label: The number of the first class in the files, which becomes 0: in ImageNet's
            usual records 1.
        **options: See `eai_notebook.formats.open_files.Options`.

    Raises:
        EaiError: No such file, a damaged one, or a library that is missing; while reading, a
            record without a picture, named by file, number and byte.
    """
    from eai_notebook.formats.images.image_parts import ImageExamples
    from eai_notebook.formats.tfrecord.tfrecord_reader import SUFFIXES as RECORDS
    from eai_notebook.formats.tfrecord.tfrecord_reader import parts_of

    views = Views(height, width, augment, area, ratio, flip, seed=options.get("seed", 0))
    reader = ImageExamples(views, encoded, label, first_label)

    def describe(files: list[File], rank: int, size: int) -> Source:
        reader.warm_up()
        parts = parts_of(files, rank, size, reader)
        seen = sum(file.size for file in files)
        return Source("image", parts, reader.spec, len(files), seen)

    return open_files(pattern, RECORDS, batch_size, describe, options)


def _found(folder: Any) -> list[File]:
    """Return the pictures, sorted; in a folder, those that are in a folder of it."""
    if isinstance(folder, (str, os.PathLike)):
        name = os.fspath(folder)
        one_file = PurePosixPath(name).suffix.lower() in {*SUFFIXES, MANIFEST}
        if not one_file and not any(sign in name for sign in "*?["):
            folder = f"{name.rstrip('/')}/*/*"
    files = [file for file in find_files(folder, SUFFIXES) if file.kind.lower() in SUFFIXES]
    if not files:
        raise EaiError(
            f"there is no picture in {folder}",
            "give a folder that holds one folder a class, with .jpg, .jpeg or .png files in it",
            code="no-images",
        )
    return files


def _class_of(file: File) -> str:
    return PurePosixPath(file.url).parent.name
