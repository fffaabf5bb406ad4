"""`File`: an input file, read by ranges of bytes from whatever storage it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from eai_notebook.io.sources.file_entry import FileEntry, shorter
from eai_notebook.io.sources.retry import with_retries
from eai_notebook.io.sources.storage import storage_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class File(FileEntry):
    """A local or remote file: a small, picklable description, equal on all ranks.

    Its attributes are those of `FileEntry`.
    """

    def read_into(self, memory: NDArray[np.uint8], begin: int = 0) -> None:
        """Fill `memory` with the bytes from `begin` on; thread-safe.

        Raises:
            EaiError: The file has changed or is too short, or the storage fails permanently.
        """
        storage = storage_of(self.url)
        count = with_retries(lambda: storage.read_into(self, memory, begin), self.url)
        if count != len(memory):
            raise shorter(self)

    def open(self) -> IO[bytes]:
        """Return a seekable stream of the bytes, for libraries that read files themselves.

        Raises:
            EaiError: The file has changed, or the storage fails permanently.
        """
        storage = storage_of(self.url)
        return with_retries(lambda: storage.open(self), self.url)
