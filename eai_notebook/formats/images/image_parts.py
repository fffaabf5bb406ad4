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

    from eai_notebook.formats.images.crops import Views
    from eai_notebook.io.part import Columns
    from eai_notebook.io.sources.file import File

IMAGE: Final = "image"
ENCODED: Final = "image/encoded"
CLASS: Final = "image/class/label"

_MEND: Final = 'mend or remove it, or leave bad pictures out and count them with on_error="skip"'
_memory = ThreadMemory()


def spec_of(views: Views) -> dict[str, Field]:
    """Return what a row is: a picture's view and its class."""
    return {
        IMAGE: Field(np.uint8, (views.height, views.width, 3)),
        LABEL: Field(np.int64, (1,)),
    }


@dataclass(frozen=True)
class ImagePart:
    """Some picture files: a `Part`.

    Attributes:
        files: The files, together one fetch.
        classes: The class of each.
        views: What is seen of them.
    """

    files: tuple[File, ...]
    classes: tuple[int, ...]
    views: Views

    @cached_property
    def name(self) -> str:
        """The files, told apart from others by a digest."""
        told = hashlib.sha256("\n".join(file.url for file in self.files).encode()).hexdigest()
        return f"{self.files[0]} and {self.rows - 1} more ({told[:12]})"

    @property
    def path(self) -> str:
        """The first file."""
        return self.files[0].url

    @property
    def rows(self) -> int:
        """How many pictures, bad ones included."""
        return len(self.files)

    def at_epoch(self, epoch: int) -> ImagePart:
        """Return the same pictures with an epoch's views."""
        return replace(self, views=replace(self.views, epoch=epoch))

    def fetch(self) -> list[NDArray[np.uint8]]:
        """Return the files' bytes, which hold until this thread fetches again.

        Raises:
            EaiError: A file is gone or has changed.
        """
        memory = _memory.of(sum(file.size for file in self.files))
        fetched = []
        for file in self.files:
            place, memory = memory[: file.size], memory[file.size :]
            file.read_into(place)
            fetched.append(place)
        return fetched

    def parse(self, fetched: list[NDArray[np.uint8]]) -> Loaded:
        """Decode the pictures; of bad ones, tell the files."""
        images = aligned((self.rows, self.views.height, self.views.width, 3), np.dtype(np.uint8))
        labels = np.array(self.classes, np.int64)[:, None]
        bad = [
            row
            for row, encoded in enumerate(fetched)
            if not decode_crop(encoded, self.views, images[row])
        ]
        if not bad:
            return Loaded({IMAGE: images, LABEL: labels})
        good = np.delete(np.arange(self.rows), bad)
        columns = {IMAGE: images[good], LABEL: labels[good]}
        return Loaded(columns, len(bad), bad[0], tuple(self.files[row].url for row in bad))

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a picture."""
        return EaiError(f"{self.files[first_bad]} is no whole picture", _MEND, code="image-damaged")


@dataclass(frozen=True)
class ImageExamples:
    """Reads pictures and their classes from records, as ImageNet's are written.

    Attributes:
        views: What is seen of them.
        encoded: The feature with the picture's bytes.
        label: The feature with its class.
        first_label: The number of the first class in the files.
    """

    views: Views
    encoded: str = ENCODED
    label: str = CLASS
    first_label: int = 1

    @cached_property
    def _features(self) -> Features:
        return Features((self.encoded, self.label), (1, 1))

    @property
    def spec(self) -> Mapping[str, Field]:
        """A view and a class."""
        return spec_of(self.views)

    def at_epoch(self, epoch: int) -> ImageExamples:
        """Return the same with an epoch's views."""
        return replace(self, views=replace(self.views, epoch=epoch))

    def warm_up(self) -> None:
        """Compile now, not within the first step."""
        nothing = np.zeros(PADDING, np.uint8)
        self.examples(nothing, 0)
        kernels.walk(nothing, 0, 0)

    def examples(self, text: NDArray[np.uint8], rows: int) -> FoundFeatures:
        """Find the features in the bytes of some records."""
        found = self._features.find(text, rows)
        wanted = np.array([kernels.BYTES, kernels.INTEGERS], np.uint8)
        wrong = (found.kinds != wanted).any(axis=1)
        found.status[wrong & (found.status == kernels.GOOD)] = kernels.BAD_KIND
        return found

    def columns(self, text: NDArray[np.uint8], found: FoundFeatures) -> Columns:
        """Decode the pictures, and mark those that cannot be."""
        rows = len(found.status)
        images = aligned((rows, self.views.height, self.views.width, 3), np.dtype(np.uint8))
        labels = found.values[:, 1:2] - self.first_label
        for row in np.flatnonzero(found.status == kernels.GOOD).tolist():
            packed = int(found.values[row, 0])
            at, length = packed >> 32, packed & 0xFFFFFFFF
            if labels[row, 0] < 0 or not decode_crop(
                text[at : at + length], self.views, images[row]
            ):
                found.status[row] = kernels.BAD_VALUE
        return {IMAGE: images, LABEL: labels}

    def fault(self, found: FoundFeatures, row: int) -> str:
        """Return what is wrong with a record."""
        if found.status[row] != kernels.BAD_VALUE:
            return self._features.fault(found, row, [kernels.BYTES, kernels.INTEGERS])
        label: Any = int(found.values[row, 1])
        if label < self.first_label:
            return f"has class {label}, the first one is {self.first_label} (set first_label)"
        return f"holds no whole picture in {self.encoded!r}"
