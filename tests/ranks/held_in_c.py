"""Holds rank 1 in C code, where no interrupt reaches it, until the file `flag` is there."""

import ctypes
import threading
import time
from pathlib import Path

from eai_notebook import collective

kept = 7
library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)


def free() -> None:
    """Let the main thread go on once the file is there."""
    while not Path(globals()["flag"]).exists():  # pushed by the test
        time.sleep(0.05)
    library.pthread_mutex_unlock(mutex)


if collective.rank() == 1:
    threading.Thread(target=free, daemon=True).start()
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)  # waits for itself
