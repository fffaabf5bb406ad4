"""`whole_folder`: write a folder atomically, so that it appears when it is complete."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_free(target: Path) -> bool:
    """Return whether `target` does not exist or is an empty folder."""
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` at the end; after an error it is deleted.

    Args:
        target: The folder to write; `is_free` must be true for it.

    Raises:
        EaiError: The folder cannot be written.

    Examples:
        >>> home = Path(tempfile.mkdtemp())
        >>> with whole_folder(home / "data") as work:
        ...     _ = (work / "file").write_text("content")
        >>> [path.name for path in (home / "data").iterdir()]
        ['file']
    """
    work = _temporary_folder(target)
    try:
        yield work
        if target.exists():
            target.rmdir()
        work.rename(target)
    except OSError as error:
        raise EaiError(
            f"{target} cannot be written ({error.strerror or error})",
            "make room, or choose another folder",
            code="folder-not-writable",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _temporary_folder(target: Path) -> Path:
    """Make a folder on the same file system, so that the rename is atomic."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        work.chmod(0o755)
    except OSError as error:
        raise EaiError(
            f"{target.parent} cannot be written ({error.strerror or error})",
            "choose another folder",
            code="folder-not-writable",
        ) from error
    return work
