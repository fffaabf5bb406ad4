"""`LocalStorage`: local and mounted file systems."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file_entry import FileEntry, changed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAKE = "or generate data with `eai-notebook make-data criteo`"


class LocalStorage:
    """Files by path, absolute or relative to the working folder."""

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[FileEntry]:
        """Return the files of a glob, a folder or one name, sorted."""
        name = pattern.removeprefix("file://")
        expanded = Path(name).expanduser()
        if expanded.is_dir():
            return [_checked_file(path) for path in _in_folder(expanded, suffixes)]
        # A file's name may contain the signs of a pattern.
        if glob.has_magic(name) and not expanded.exists():
            matching = glob.glob(str(expanded), recursive=True)  # noqa: PTH207 - absolute patterns too
            files = sorted(path for path in map(Path, matching) if path.is_file())
            if not files:
                raise EaiError(
                    f"no file matches {name} (working folder {Path.cwd()})",
                    f"check the pattern, {_MAKE}",
                    code="no-files",
                )
            return [_checked_file(path) for path in files]
        if not expanded.exists():
            raise EaiError(
                f"there is no file or folder {name} (working folder {Path.cwd()})",
                f"check the path, {_MAKE}",
                code="no-files",
            )
        return [_checked_file(expanded)]

    def read_into(self, file: FileEntry, memory: NDArray[np.uint8], begin: int) -> int:
        """Read with as few system calls as possible."""
        # No buffered stream: the bytes go directly to `memory`.
        descriptor = os.open(file.url, os.O_RDONLY)
        try:
            _check(file, os.fstat(descriptor))
            got = 0
            while got < len(memory):
                more = os.preadv(descriptor, [memory[got:].data], begin + got)
                if not more:
                    break
                got += more
            # Check again: the file may have been written to in the meantime.
            _check(file, os.fstat(descriptor))
            return got
        finally:
            os.close(descriptor)

    def open(self, file: FileEntry) -> IO[bytes]:
        """Return a stream, after a check that the file has not changed."""
        stream = Path(file.url).open("rb")  # noqa: SIM115 - the caller closes it
        try:
            _check(file, os.fstat(stream.fileno()))
        except EaiError:
            stream.close()
            raise
        return stream


def _in_folder(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    files = sorted(
        path
        for path in folder.iterdir()
        if FileEntry(str(path), 0).kind in suffixes
        and path.is_file()
        and not path.name.startswith(".")
    )
    if not files:
        raise EaiError(
            f"the folder {folder} has no {', '.join(sorted(suffixes))} file",
            "name the files with a glob",
            code="no-files",
        )
    return files


def _checked_file(path: Path) -> FileEntry:
    if not path.is_file():  # opening a pipe that nobody writes to waits without end
        raise EaiError(
            f"{path} is a pipe, a socket or a device, not a file",
            "write its bytes to a file and name that: readers look at a file more than once",
            code="not-a-file",
        )
    if not os.access(path, os.R_OK):
        raise EaiError(
            f"{path} cannot be read: permission denied",
            f"allow it with `chmod +r {path}`",
            code="file-not-readable",
        )
    status = path.stat()
    return FileEntry(str(path), status.st_size, str(status.st_mtime_ns))


def _check(file: FileEntry, status: os.stat_result) -> None:
    if (status.st_size, str(status.st_mtime_ns)) != (file.size, file.mark):
        raise changed(file)
