"""`images` and `imagenet`: read folders of images, and ImageNet's records.

The reader's threads decode, crop and resize images; the libraries release the interpreter lock.
"""

from __future__ import annotations

import os
import random
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.collective.reading_rank import reading_rank
from eai_notebook.errors import EaiError
from eai_notebook.formats.images.crops import CropSampler
from eai_notebook.formats.open_files import open_files
from eai_notebook.io.opens_again import opens_again
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
FILES_PER_PART: Final = 16
"""Images that one reader fetches and decodes at once."""


@opens_again
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
    """Open images, one folder a class, as this rank's batches, ready for `fit`.

    Each rank reads an equal number of files; all ranks together read every file exactly once. Needs
    ``pip install 'eai_notebook[images]'``. In a group, all ranks must call this together.

    Args:
        folder: The folder with one folder for each class; or a glob or a list of files, each in
            a folder with the name of its class. Paths or URLs; JPEG or PNG.
        batch_size: Images in each of this rank's batches.
        height: Of the crops, in pixels.
        width: Of the crops, in pixels.
        augment: Draw a random crop of each image, another one each epoch; False for the center
            crop, to evaluate.
        area: The smallest and largest share of an image's area in a random crop.
        ratio: The smallest and largest aspect ratio, width / height, of a random crop.
        flip: Mirror half of the images; not for digits.
        classes: The names of the classes in order; None for the folders' names, sorted.
        **options: See `eai_notebook.formats.open_files.Options`.

    Returns:
        Batches of ``({"image": uint8 [batch, height, width, 3]}, int64 [batch, 1])``: pixels
        from 0 to 255, red first, and the number of the class.

    Raises:
        EaiError: No such file, a class that is not among `classes`, or a missing library;
            while reading, an image that cannot be decoded.
    """
    from eai_notebook.formats.images.image_parts import ImagePart, spec_of

    checked = {"shuffle", "seed", "shard"}
    check_options(batch_size, **{k: v for k, v in options.items() if k not in checked})  # type: ignore[arg-type]
    seed = options.get("seed", 0)
    crops = CropSampler(height, width, augment, area, ratio, flip, seed=seed)
    files = _image_files(folder)
    known = list(classes) if classes is not None else sorted({_class_of(file) for file in files})
    numbers = {name: number for number, name in enumerate(known)}
    for file in files:
        if _class_of(file) not in numbers:
            raise EaiError(
                f"{file} is in the folder {_class_of(file)!r}, which is not one of the "
                f"{len(numbers)} classes",
                "move it, or add the class to `classes`",
                code="image-class-unknown",
            )
    rank, size = reading_rank(shard=options.get("shard", True))
    if options.get("shuffle", True):
        # Sorted files would put one class into each part: shuffle the files once.
        random.Random(seed).shuffle(files)  # noqa: S311 - no secret
    mine = files[rank::size]
    parts = [
        ImagePart(
            tuple(mine[begin : begin + FILES_PER_PART]),
            tuple(numbers[_class_of(file)] for file in mine[begin : begin + FILES_PER_PART]),
            crops,
        )
        for begin in range(0, len(mine), FILES_PER_PART)
    ]
    total_bytes = sum(file.size for file in files)
    source = Source("image", parts, spec_of(crops), len(files), total_bytes)
    return open_batches(source, batch_size, **options)


@opens_again
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
    """Open TFRecord files of images, the usual form of ImageNet, as batches for `fit`.

    Each rank reads an equal number of bytes; every checksum is checked. Arguments and batches
    are otherwise those of `images`.

    Args:
        pattern: The files, of any suffix: a glob, a folder, a list; paths or URLs.
        batch_size: Images in each of this rank's batches.
        height: Of the crops, in pixels.
        width: Of the crops, in pixels.
        augment: Draw a random crop of each image; False for the center crop.
        area: The smallest and largest share of an image's area in a random crop.
        ratio: The smallest and largest aspect ratio, width / height, of a random crop.
        flip: Mirror half of the images.
        encoded: The feature with an image's bytes.
        label: The feature with its class, an integer.
        first_label: The number of the first class in the files, which becomes 0: 1 in the
            usual records of ImageNet.
        **options: See `eai_notebook.formats.open_files.Options`.

    Raises:
        EaiError: No such file, a damaged one, or a missing library; while reading, a record
            without an image, named by file, number and byte.
    """
    from eai_notebook.formats.images.image_parts import ImageExamples
    from eai_notebook.formats.tfrecord.tfrecord_reader import SUFFIXES as RECORDS
    from eai_notebook.formats.tfrecord.tfrecord_reader import parts_of

    crops = CropSampler(height, width, augment, area, ratio, flip, seed=options.get("seed", 0))
    reader = ImageExamples(crops, encoded, label, first_label)

    def describe(files: list[File], rank: int, size: int) -> Source:
        reader.warm_up()
        parts = parts_of(files, rank, size, reader)
        total_bytes = sum(file.size for file in files)
        return Source("image", parts, reader.spec, len(files), total_bytes)

    return open_files(pattern, RECORDS, batch_size, describe, options)


def _image_files(folder: Any) -> list[File]:
    """Return the image files, sorted; of a folder, those in its folders."""
    if isinstance(folder, (str, os.PathLike)):
        name = os.fspath(folder)
        one_file = PurePosixPath(name).suffix.lower() in {*SUFFIXES, MANIFEST}
        if not one_file and not any(sign in name for sign in "*?["):
            folder = f"{name.rstrip('/')}/*/*"
    files = [file for file in find_files(folder, SUFFIXES) if file.kind.lower() in SUFFIXES]
    if not files:
        raise EaiError(
            f"{folder} contains no images",
            "give a folder with one folder a class, which contain .jpg, .jpeg or .png files",
            code="no-images",
        )
    return files


def _class_of(file: File) -> str:
    return PurePosixPath(file.url).parent.name
