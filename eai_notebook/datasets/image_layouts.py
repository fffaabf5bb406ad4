"""Write images in the two layouts of ImageNet: a folder for each class, or records.

Folders: ``train/<class>/<image>.jpg`` and ``val/<class>/...``, as in ImageNet's archives and as most
libraries expect it. Records: ``train-00000-of-00008`` and ``validation-...``, TFRecord files of
`tf.train.Example` with the features of TensorFlow's ImageNet conversion; classes begin at 1.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    LabeledImage = tuple[NDArray[np.uint8], int]
    """Pixels ``[height, width, 3]``, or ``[height, width]`` in grey; and the class."""

LAYOUTS: Final = ("folders", "tfrecord")
_QUALITY: Final = 90
_RECORD_NAMES: Final = {"train": "train", "val": "validation"}  # of record files, by part


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as the bytes of a JPEG file.

    Examples:
        >>> import numpy as np
        >>> jpeg(np.zeros((8, 8, 3), np.uint8))[:2].hex()
        'ffd8'
    """
    from PIL import Image  # only needed to write

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def write_folders(
    folder: Path, part: str, images: Iterable[LabeledImage], classes: Sequence[str]
) -> Iterator[int]:
    """Write a part, ``"train"`` or ``"val"``, one folder a class; yield 1 for each image written."""
    for name in classes:
        (folder / part / name).mkdir(parents=True, exist_ok=True)
    for number, (pixels, label) in enumerate(images):
        name = classes[label]
        (folder / part / name / f"{name}_{number:06d}.jpg").write_bytes(jpeg(pixels))
        yield 1


def write_records(
    folder: Path, part: str, images: Iterable[LabeledImage], classes: Sequence[str], shards: int
) -> Iterator[int]:
    """Write a part as `shards` files, images in turn; yield 1 for each image written."""
    import tensorflow as tf  # slow to import

    name = _RECORD_NAMES[part]
    files = [folder / f"{name}-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    writers = [tf.io.TFRecordWriter(str(file)) for file in files]
    try:
        for number, (pixels, label) in enumerate(images):
            file_name = f"{classes[label]}_{number:06d}.JPEG"
            example = _example(tf.train, pixels, label, classes[label], file_name)
            writers[number % shards].write(example.SerializeToString(deterministic=True))
            yield 1
    finally:
        for writer in writers:
            writer.close()


def _example(train: Any, pixels: NDArray[np.uint8], label: int, name: str, file: str) -> Any:
    """Return an image as a record like ImageNet's, without bounding boxes."""
    is_grey = pixels.ndim == 2  # noqa: PLR2004 - a plane
    values: dict[str, int | bytes] = {
        "image/encoded": jpeg(pixels),
        "image/format": b"JPEG",
        "image/filename": file.encode(),
        "image/height": pixels.shape[0],
        "image/width": pixels.shape[1],
        "image/channels": 1 if is_grey else 3,
        "image/colorspace": b"Grayscale" if is_grey else b"RGB",
        "image/class/label": label + 1,
        "image/class/synset": name.encode(),
        "image/class/text": name.encode(),
    }
    features = {
        key: train.Feature(bytes_list=train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else train.Feature(int64_list=train.Int64List(value=[value]))
        for key, value in values.items()
    }
    return train.Example(features=train.Features(feature=features))
