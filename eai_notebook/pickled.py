"""Pickle values between the notebook and the ranks: with the classes of cells, arrays uncopied.

ipyparallel pickles a result itself, and unpickles it in a thread whose errors reach nobody. Here
both ends do it where an error can be raised. ``cloudpickle`` sends classes and functions of a
notebook along with the values, and knows a class that comes back to where it was defined.
"""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import numpy as np

ALONGSIDE_BYTES = 1 << 16
"""Arrays from this size on travel beside the pickle, without a copy of them in it."""


def dump(value: Any) -> list[Any]:
    """Return `value` as bytes and the memory of its large arrays; raises what pickling raises.

    Examples:
        >>> load(dump({"a": (1, 2)}))
        {'a': (1, 2)}
    """
    buffers: list[np.ndarray] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < ALONGSIDE_BYTES:
            return True
        buffers.append(np.frombuffer(raw, np.uint8))
        return False

    return [cloudpickle.dumps(value, protocol=5, buffer_callback=stays_inside), *buffers]


def load(parts: list[Any]) -> Any:
    """Return what was dumped, arrays writable; raises what unpickling raises.

    Only from this notebook's own ranks, or this rank's own notebook: a pickle can run any code.
    """
    inside, *alongside = parts
    return pickle.loads(inside, buffers=[bytearray(buffer) for buffer in alongside])  # noqa: S301
