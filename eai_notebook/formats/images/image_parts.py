"""Parts of an image data set: some files of a folder, or records of `tf.train.Example`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.compiled.swar import PADDING
from eai_notebook.errors import EaiError
from eai_notebook.formats.images.image_decode import decode_crop
from eai_notebook.formats.tfrecord import example_kernels as kernels
from eai_notebook.formats.tfrecord.feature_readers import Features, FoundFeatures
from eai_notebook.io.memory.alignment import aligned
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.part import LABEL, Field, Loaded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eai_notebook.formats.images.crops import CropSampler
    from eai_notebook.io.part import Columns
    from eai_notebook.io.sources.file import File

IMAGE: Final = "image"
ENCODED: Final = "image/encoded"
CLASS: Final = "image/class/label"

_REMEDY: Final = 'repair or remove it, or skip and count bad images with on_error="skip"'
_memory = ThreadMemory()


def spec_of(crops: CropSampler) -> dict[str, Field]:
    """Return type and shape of a row: a crop of an image, and its class."""
    return {
        IMAGE: Field(np.uint8, (crops.height, crops.width, 3)),
        LABEL: Field(np.int64, (1,)),
    }


@dataclass(frozen=True)
class ImagePart:
    """Some image files: a `Part`.

    Attributes:
        files: The files, fetched together.
        classes: The class of each file.
        crops: Draws the crops.
    """

    files: tuple[File, ...]
    classes: tuple[int, ...]
    crops: CropSampler

    @cached_property
    def name(self) -> str:
        """The first file, and a digest of all, so that names are unique."""
        digest = hashlib.sha256("\n".join(file.url for file in self.files).encode()).hexdigest()
        return f"{self.files[0]} and {self.rows - 1} more ({digest[:12]})"

    @property
    def path(self) -> str:
        """The first file."""
        return self.files[0].url

    @property
    def rows(self) -> int:
        """The number of images, including bad ones."""
        return len(self.files)

    def at_epoch(self, epoch: int) -> ImagePart:
        """Return the same images with the crops of an epoch."""
        return replace(self, crops=replace(self.crops, epoch=epoch))

    def fetch(self) -> list[NDArray[np.uint8]]:
        """Return the files' bytes, in a buffer that this thread's next fetch reuses.

        Raises:
            EaiError: A file was removed or has changed.
        """
        memory = _memory.of(sum(file.size for file in self.files))
        fetched = []
        for file in self.files:
            encoded, memory = memory[: file.size], memory[file.size :]
            file.read_into(encoded)
            fetched.append(encoded)
        return fetched

    def parse(self, fetched: list[NDArray[np.uint8]]) -> Loaded:
        """Decode the images; the result names the files of bad ones."""
        images = aligned((self.rows, self.crops.height, self.crops.width, 3), np.dtype(np.uint8))
        labels = np.array(self.classes, np.int64)[:, None]
        bad = [
            row
            for row, encoded in enumerate(fetched)
            if not decode_crop(encoded, self.crops, images[row])
        ]
        if not bad:
            return Loaded({IMAGE: images, LABEL: labels})
        good = np.delete(np.arange(self.rows), bad)
        columns = {IMAGE: images[good], LABEL: labels[good]}
        return Loaded(columns, len(bad), bad[0], tuple(self.files[row].url for row in bad))

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about an image."""
        return EaiError(
            f"{self.files[first_bad]} cannot be decoded as an image", _REMEDY, code="image-damaged"
        )


@dataclass(frozen=True)
class ImageExamples:
    """Reads images and their classes from records like those of ImageNet.

    Attributes:
        crops: Draws the crops.
        encoded: The feature with the image's bytes.
        label: The feature with its class.
        first_label: The number of the first class in the files.
    """

    crops: CropSampler
    encoded: str = ENCODED
    label: str = CLASS
    first_label: int = 1

    @cached_property
    def _features(self) -> Features:
        return Features((self.encoded, self.label), (1, 1))

    @property
    def spec(self) -> Mapping[str, Field]:
        """A crop and a class."""
        return spec_of(self.crops)

    def at_epoch(self, epoch: int) -> ImageExamples:
        """Return the same reader with the crops of an epoch."""
        return replace(self, crops=replace(self.crops, epoch=epoch))

    def warm_up(self) -> None:
        """Compile the kernels now, not within the first step."""
        empty = np.zeros(PADDING, np.uint8)
        self.examples(empty, 0)
        kernels.count_records(empty, 0, 0)

    def examples(self, data: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Parse the bytes of some records."""
        found = self._features.find(data, rows)
        expected = np.array([kernels.BYTES, kernels.INTEGERS], np.uint8)
        wrong = (found.kinds != expected).any(axis=1)
        found.status[wrong & (found.status == kernels.GOOD)] = kernels.BAD_KIND
        return found

    def columns(self, data: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Decode the images, and set the status of those that cannot be decoded."""
        rows = len(found.status)
        images = aligned((rows, self.crops.height, self.crops.width, 3), np.dtype(np.uint8))
        labels = found.values[:, 1:2] - self.first_label
        for row in np.flatnonzero(found.status == kernels.GOOD).tolist():
            packed = int(found.values[row, 0])
            offset, length = packed >> 32, packed & 0xFFFFFFFF
            encoded = data[offset : offset + length]
            if labels[row, 0] < 0 or not decode_crop(encoded, self.crops, images[row]):
                found.status[row] = kernels.BAD_VALUE
        return {IMAGE: images, LABEL: labels}

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""
        if found.status[row] != kernels.BAD_VALUE:
            return self._features.fault(found, row, [kernels.BYTES, kernels.INTEGERS])
        label: Any = int(found.values[row, 1])
        if label < self.first_label:
            return f"has class {label}, but first_label is {self.first_label}"
        return f"has an image in {self.encoded!r} that cannot be decoded"
