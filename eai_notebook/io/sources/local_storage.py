"""Local and mounted file systems, read with no layer in between."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file import File, changed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAKE = "or make data with `eai-notebook make-data criteo`"


class LocalStorage:
    """Paths, absolute or as seen from the working folder."""

    def find(self, pattern: str, suffixes: frozenset[str]) -> list[File]:
        """Return the files of a glob, a folder or one name, sorted."""
        name = pattern.removeprefix("file://")
        expanded = Path(name).expanduser()
        if expanded.is_dir():
            return [_found(path) for path in _in_folder(expanded, suffixes)]
        # A file may be named like a pattern.
        if glob.has_magic(name) and not expanded.exists():
            matching = glob.glob(str(expanded), recursive=True)  # noqa: PTH207 - absolute patterns too
            files = sorted(path for path in map(Path, matching) if path.is_file())
            if not files:
                raise EaiError(
                    f"no file matches {name} (seen from {Path.cwd()})",
                    f"check the folder, {_MAKE}",
                    code="no-files",
                )
            return [_found(path) for path in files]
        if not expanded.exists():
            raise EaiError(
                f"there is no file or folder {name} (seen from {Path.cwd()})",
                f"check the path, {_MAKE}",
                code="no-files",
            )
        return [_found(expanded)]

    def read_into(self, file: File, memory: NDArray[np.uint8], begin: int) -> int:
        """Read with as few system calls as there can be."""
        # Without a buffer between: the bytes go straight where they are wanted.
        descriptor = os.open(file.url, os.O_RDONLY)
        try:
            _check(file, os.fstat(descriptor))
            got = 0
            while got < len(memory):
                more = os.preadv(descriptor, [memory[got:].data], begin + got)
                if not more:
                    break
                got += more
            # Once more: somebody may have written to it in between.
            _check(file, os.fstat(descriptor))
            return got
        finally:
            os.close(descriptor)

    def open(self, file: File) -> IO[bytes]:
        """Open it, if it is what it was."""
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
        if File(str(path), 0).kind in suffixes and path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise EaiError(
            f"folder {folder} holds no {', '.join(sorted(suffixes))} file",
            "name the files with a glob",
            code="no-files",
        )
    return files


def _found(path: Path) -> File:
    if not os.access(path, os.R_OK):
        raise EaiError(
            f"{path} may not be read", f"allow it with `chmod +r {path}`", code="file-not-readable"
        )
    status = path.stat()
    return File(str(path), status.st_size, str(status.st_mtime_ns))


def _check(file: File, status: os.stat_result) -> None:
    if (status.st_size, str(status.st_mtime_ns)) != (file.size, file.mark):
        raise changed(file)
