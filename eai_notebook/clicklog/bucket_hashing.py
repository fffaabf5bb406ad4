"""The hash of a 32-bit categorical value to its bucket, the same for every format.

A model that was trained from one format must find the same buckets in another. There is a scalar
version for compiled readers and an array version for other code; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELD_STEP = np.uint32(0x9E3779B1)  # 2**32 / golden ratio: spreads neighbouring field numbers
MIX_1 = np.uint32(0x85EBCA6B)  # the finalizer of MurmurHash3 (Appleby, public domain):
MIX_2 = np.uint32(0xC2B2AE35)  # every input bit flips about half of the output bits
_MASK = np.uint64(0xFFFFFFFF)


@njit(inline="always")
def bucket_of(value: np.uint32, field: int, buckets: int) -> np.int32:
    """Return the bucket of one value, for compiled readers; see `hash_ids`."""
    mixed = np.uint32(value + np.uint32(field + 1) * FIELD_STEP)
    mixed ^= mixed >> np.uint32(16)
    mixed = np.uint32(mixed * MIX_1)
    mixed ^= mixed >> np.uint32(13)
    mixed = np.uint32(mixed * MIX_2)
    mixed ^= mixed >> np.uint32(16)
    # Multiply and shift instead of modulo: equally uniform, and several times cheaper.
    bucket: np.int32 = np.int32(1 + ((np.uint64(mixed) * np.uint64(buckets - 1)) >> np.uint64(32)))
    return bucket


def hash_ids(values: NDArray[np.uint32], field: int, buckets: int) -> NDArray[np.int32]:
    """Hash the values of categorical column number `field` (from 0) into its buckets.

    Equal values in two columns have unrelated buckets. Bucket 0 is never returned: it means a
    missing value.

    Args:
        values: The 32-bit values, any shape.
        field: The column's index among the categoricals, from 0.
        buckets: The column's number of buckets, including bucket 0.

    Returns:
        Buckets from 1 to ``buckets - 1``, int32, in the shape of `values`.

    Examples:
        >>> hash_ids(np.array([0x68FD1E64, 0x68FD1E64], np.uint32), 0, 1000).tolist()
        [145, 145]
    """
    mixed = np.asarray(values, np.uint32) + np.asarray(field + 1, np.uint32) * FIELD_STEP
    mixed = (mixed ^ (mixed >> np.uint32(16))) * MIX_1
    mixed = (mixed ^ (mixed >> np.uint32(13))) * MIX_2
    mixed ^= mixed >> np.uint32(16)
    scaled = (mixed.astype(np.uint64) & _MASK) * np.uint64(buckets - 1)
    chosen: NDArray[np.int32] = (1 + (scaled >> np.uint64(32))).astype(np.int32)
    return chosen
