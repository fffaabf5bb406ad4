"""Bringing files to the disk in the background, so that a power cut loses about a second.

``fsync`` can take long on a busy or a network disk, and nobody who writes a row may wait for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

EVERY_S: Final = 0.8


class Syncer:
    """Brings each path named to `soon` to the disk within a second, in a thread of its own."""

    def __init__(self) -> None:
        self._dirty: set[Path] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = threading.Event()

    def soon(self, path: Path) -> None:
        """Have `path`, a file or a folder, on the disk soon; returns at once."""
        with self._lock:
            self._dirty.add(path)
            if self._thread is None or not self._thread.is_alive():  # also after a fork
                self._thread = threading.Thread(target=self._run, name="eai-sync", daemon=True)
                self._thread.start()
        self._asked.set()

    def now(self) -> None:
        """Bring what was named so far to the disk."""
        with self._lock:
            paths, self._dirty = self._dirty, set()
        for path in paths:
            with contextlib.suppress(OSError):  # it was removed, or its disk refuses: not here
                number = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(number)
                finally:
                    os.close(number)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._asked.wait()
            self._asked.clear()
            self.now()
            pause.wait(EVERY_S)  # what comes meanwhile goes together


syncer: Final = Syncer()
