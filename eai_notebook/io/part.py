"""`Part` and `Source`: the interface between file formats and the input pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Self

    from eai_notebook.errors import EaiError
    from eai_notebook.io.sources.file import File

Columns = dict[str, "NDArray[Any]"]
"""Arrays of equal first dimension, by name; ``"label"`` is the label."""

LABEL: Final = "label"


@dataclass(frozen=True)
class Field:
    """Type and shape of a row in one column; the shape has no batch dimension."""

    dtype: DTypeLike
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The result of loading a part: its good rows, and facts about the bad ones.

    Attributes:
        columns: The good rows.
        bad: The number of bad rows.
        first_bad: The first bad row: the argument of `Part.fault`, an offset or an index.
        bad_paths: The file of each bad row, if the part consists of several files.
    """

    columns: Columns
    bad: int = 0
    first_bad: int = 0
    bad_paths: tuple[str, ...] = ()


class Part(Protocol):
    """A piece of a file that is fetched and parsed at once; it can be pickled.

    The thread that fetches a part also parses it, before it fetches the next one.
    """

    @property
    def name(self) -> str:
        """File and position, for messages; unique within a source."""

    @property
    def path(self) -> str:
        """The file, for errors and for counting."""

    @property
    def rows(self) -> int:
        """The number of rows, including bad ones; known without reading the part."""

    def fetch(self) -> Any:
        """Read the bytes: waits for storage and computes nothing."""

    def parse(self, fetched: Any) -> Loaded:
        """Turn the bytes into rows: computes and waits for nothing."""

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a bad row: file, row, fault and remedy."""


class RowRange:
    """Base of parts that are rows `begin` to `end` of a file; subclasses define the fields."""

    file: File
    begin: int
    end: int

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    @property
    def rows(self) -> int:
        """The number of rows, including bad ones."""
        return self.end - self.begin


@runtime_checkable
class ByEpoch(Protocol):
    """A part or reader that differs by epoch, such as random crops of the same images."""

    def at_epoch(self, epoch: int) -> Self:
        """Return the object for an epoch."""


@dataclass(frozen=True)
class Source:
    """A rank's shard of some files: its parts, and the type and shape of their rows.

    Attributes:
        name: The name of the data in messages.
        parts: The parts that this rank reads.
        spec: Type and shape of each column, including the label if there is one.
        files: The number of files that all ranks read.
        total_bytes: The size of all files on this host; it must be equal on all ranks.
        holds_gil: Whether parsing holds the interpreter lock, so that it runs in processes.
    """

    name: str
    parts: Sequence[Part]
    spec: Mapping[str, Field]
    files: int = 1
    total_bytes: int = 0
    holds_gil: bool = False

    def parts_at(self, epoch: int) -> Sequence[Part]:
        """Return the parts for an epoch: in some formats, such as images, parts differ by epoch."""
        return [part.at_epoch(epoch) if isinstance(part, ByEpoch) else part for part in self.parts]

    @property
    def rows(self) -> int:
        """The number of rows in all parts of this rank."""
        return sum(part.rows for part in self.parts)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory; an object, such as text, counts as its pointer."""
        return sum(
            np.dtype(field.dtype).itemsize * int(np.prod(field.shape, dtype=np.int64))
            for field in self.spec.values()
        )
