"""`Part` and `Source`: the seam between file formats and the input pipeline."""

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
"""Arrays of equal first dimension; the key ``"label"`` is what a model should predict."""

LABEL: Final = "label"


@dataclass(frozen=True)
class Field:
    """What one row of a column is: its type, and its shape without the batch."""

    dtype: DTypeLike
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The good rows of a part, and what was bad: how many, and where the first begins.

    ``first_bad`` is whatever the part's own `Part.fault` understands: a byte, a row. Where a
    part is of several files, ``bad_paths`` are those of the bad rows.
    """

    columns: Columns
    bad: int = 0
    first_bad: int = 0
    bad_paths: tuple[str, ...] = ()


class Part(Protocol):
    """A piece of a file that is fetched and parsed at once; it can travel between processes.

    The thread that has fetched a part also parses it, before it fetches the next one.
    """

    @property
    def name(self) -> str:
        """What people call it: file and place."""

    @property
    def path(self) -> str:
        """The file, for errors and for counting."""

    @property
    def rows(self) -> int:
        """How many rows there are, bad ones included; known without reading it."""

    def fetch(self) -> Any:
        """Get the bytes: waits for storage, computes nothing."""

    def parse(self, fetched: Any) -> Loaded:
        """Make rows of the bytes: computes, waits for nothing."""

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a bad row: file, row, what is wrong with it, remedy."""


class RowRange:
    """What parts that are rows `begin` to `end` of a file have in common; their fields are."""

    file: File
    begin: int
    end: int

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    @property
    def rows(self) -> int:
        """Rows, bad ones included."""
        return self.end - self.begin


@runtime_checkable
class ByEpoch(Protocol):
    """What is something else in each epoch, such as random views of the same pictures."""

    def at_epoch(self, epoch: int) -> Self:
        """Return it as an epoch sees it."""


@dataclass(frozen=True)
class Source:
    """A rank's share of some files: its parts, and what their rows are.

    Attributes:
        name: What the data is called in messages.
        parts: What this rank reads.
        spec: The columns of a row, the label among them where there is one.
        files: How many files all ranks read.
        total_bytes: Their size as this rank sees it, which all ranks must see alike.
        holds_gil: Parsing is arbitrary Python, which gets processes instead of threads.
    """

    name: str
    parts: Sequence[Part]
    spec: Mapping[str, Field]
    files: int = 1
    total_bytes: int = 0
    holds_gil: bool = False

    def parts_at(self, epoch: int) -> Sequence[Part]:
        """Return the parts as an epoch sees them: of some formats, such as pictures, other views."""
        return [part.at_epoch(epoch) if isinstance(part, ByEpoch) else part for part in self.parts]

    @property
    def rows(self) -> int:
        """Rows of all parts of this rank."""
        return sum(part.rows for part in self.parts)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory; of an object, such as text, its reference alone."""
        return sum(
            np.dtype(field.dtype).itemsize * int(np.prod(field.shape, dtype=np.int64))
            for field in self.spec.values()
        )
