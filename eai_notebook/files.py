"""Private files, written atomically with mode 0600; JSON of others, read with bounds."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Final

from eai_notebook.errors import EaiError

LONGEST_JSON: Final = 64 << 20
"""Bytes of a file that is read as JSON; a longer one is none of ours."""


def read_bounded(path: Path) -> str:
    """Return the text of a file that may be somebody else's.

    A pipe that nobody writes to would be waited for, and a device be read without end.

    Raises:
        OSError: It is missing, or no regular file.
        ValueError: It is too long, or no UTF-8.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(number, encoding="utf-8") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            message = f"{path.name} is no regular file"
            raise OSError(message)
        if about.st_size > LONGEST_JSON:
            message = f"{path.name} has {about.st_size:,} bytes"
            raise ValueError(message)
        return file.read()


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds, that may be somebody else's.

    Raises:
        OSError: It is missing, or no regular file.
        ValueError: It is too long, too deeply nested, or no JSON.

    Examples:
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> write_private(path, "[1, 2]")
        >>> read_json(path)
        [1, 2]
    """
    try:
        return json.loads(read_bounded(path))
    except RecursionError as error:
        message = f"{path.name} is nested too deeply"
        raise ValueError(message) from error


def write_private(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` with mode 0600, whatever the umask; replace an existing file.

    The new file is complete on disk before it is renamed, so no reader finds a part of it, also
    after a crash or a power cut.

    Examples:
        >>> folder = tempfile.mkdtemp()
        >>> write_private(Path(folder) / "a", "text")
        >>> oct((Path(folder) / "a").stat().st_mode & 0o777)
        '0o600'
    """
    data = content.encode() if isinstance(content, str) else content
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    new = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def private_folder(path: Path) -> Path:
    """Return the folder `path`; create it with mode 0700 if it is missing.

    Raises:
        EaiError: It is a link, or belongs to another user, who could read or change its files.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.geteuid():
        what = f"{path} belongs to user {found.st_uid}, or is a link"
        raise EaiError(
            what,
            "remove it, or set another folder (JUPYTER_RUNTIME_DIR, XDG_CACHE_HOME)",
            code="folder-not-private",
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def keep_newest(folder: Path, pattern: str, most: int) -> None:
    """Remove all but the `most` newest files below `folder` whose names match `pattern`.

    A file that another process has removed is passed over.

    Examples:
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.json", "b.json", "c.txt"):
        ...     write_private(folder / name, "")
        >>> keep_newest(folder, "*.json", 1)
        >>> len(list(folder.iterdir()))
        2
    """
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path.name, path))
    for _, _, path in sorted(found, reverse=True)[most:]:
        with contextlib.suppress(OSError):
            path.unlink()
