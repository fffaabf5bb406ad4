"""Binary codes of documents and Hamming-distance search; NumPy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


def word_shares(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of each word in its document: the target of an `autoencoder`.

    Args:
        counts: ``[documents, vocabulary]``.

    Raises:
        EaiError: A document has no word.
    """
    total = counts.sum(axis=1, keepdims=True)
    if not np.all(total > 0):
        raise EaiError(
            f"document {int(np.argmin(total))} has no word of the vocabulary",
            "remove documents without words",
            code="document-empty",
        )
    shares: NDArray[np.float32] = (counts / total).astype(np.float32)
    return shares


def binary_codes(encoder: keras.Model, counts: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return each document's code, its bits packed into bytes.

    Returns:
        uint8 ``[documents, ceil(bits / 8)]``.
    """
    return np.packbits(encoder.predict(counts, batch_size=1024, verbose=0) > 0.5, axis=1)  # noqa: PLR2004


def hamming_distances(codes: NDArray[np.uint8], query: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of bits in which each code differs from `query`.

    Args:
        codes: uint8 ``[documents, bytes]``.
        query: uint8 ``[bytes]``.

    Examples:
        >>> hamming_distances(np.array([[0], [3], [255]], np.uint8), np.array([1], np.uint8)).tolist()
        [1, 1, 7]
    """
    distances: NDArray[np.int64] = np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.int64)
    return distances


def hamming_ball(
    codes: NDArray[np.uint8], query: NDArray[np.uint8], radius: int
) -> NDArray[np.int64]:
    """Return the documents whose code differs from `query` in at most `radius` bits, nearest first.

    Examples:
        >>> hamming_ball(np.array([[0], [3], [255]], np.uint8), np.array([3], np.uint8), 2).tolist()
        [1, 0]
    """
    distances = hamming_distances(codes, query)
    order = np.argsort(distances, kind="stable")
    inside: NDArray[np.int64] = order[distances[order] <= radius]
    return inside
