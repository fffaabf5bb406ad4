"""LEB128 varints, as in protobuf, Thrift and Snappy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(inline="always")
def varint(text: Any, at: Any, end: Any) -> Any:
    """Return a number and where it ends; -1 if it does not before `end`, or is too long."""
    if at >= end:
        return np.uint64(0), np.int64(-1)
    byte = np.uint64(text[at])
    at += 1
    value = byte & np.uint64(0x7F)
    shift = np.uint64(7)
    while byte >= np.uint64(0x80):
        if at >= end or shift > np.uint64(63):
            return np.uint64(0), np.int64(-1)
        byte = np.uint64(text[at])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return np.uint64(0), np.int64(-1)
        value |= (byte & np.uint64(0x7F)) << shift
        shift += np.uint64(7)
    return value, np.int64(at)
