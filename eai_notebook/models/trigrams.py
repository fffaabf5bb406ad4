"""Hash words into letter-trigram counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BUCKETS: Final = 30_000
"""About the number of English trigrams in the paper; bucket 0 pads short texts."""

_WORD: Final = re.compile(r"\w+")
_BASE: Final = 0x01000193  # FNV-1a's prime and offset basis (Fowler, Noll, Vo; public domain)
_START: Final = 0x811C9DC5


def trigrams(text: str) -> list[str]:
    """Return the letter trigrams of each word, with `#` at its begin and end.

    Examples:
        >>> trigrams("Good web")
        ['#go', 'goo', 'ood', 'od#', '#we', 'web', 'eb#']
    """
    marked = [f"#{word}#" for word in _WORD.findall(text.lower())]
    return [word[at : at + 3] for word in marked for at in range(len(word) - 2)]


def hash_trigrams(
    texts: Sequence[str], *, length: int = 64, buckets: int = BUCKETS
) -> NDArray[np.int32]:
    """Hash the letter trigrams of each text, so that unseen words have known parts.

    Half a million words have some thirty thousand trigrams, and hardly two words the same
    ones (Huang et al. 2013, "Learning Deep Structured Semantic Models for Web Search using
    Clickthrough Data", section 3.2).

    Args:
        texts: Queries or titles.
        length: Trigrams of a text that are used.
        buckets: Buckets; bucket 0 is padding.

    Returns:
        int32 ``[texts, length]``, 0 behind a text's last trigram.

    Raises:
        EaiError: A length below 1, or fewer than 2 buckets.

    Examples:
        >>> hash_trigrams(["web"], length=4).tolist()
        [[29457, 16690, 29454, 0]]
    """
    if length < 1 or buckets < 2:  # noqa: PLR2004 -- padding, and one more
        raise EaiError(
            f"length is {length!r} and buckets is {buckets!r}",
            "use a length of at least 1 and at least 2 buckets",
            code="option-invalid",
        )
    known: dict[str, int] = {}
    hashed = np.zeros((len(texts), length), np.int32)
    for row, text in enumerate(texts):
        for column, each in enumerate(trigrams(text)[:length]):
            if each not in known:
                known[each] = 1 + _hash(each) % (buckets - 1)
            hashed[row, column] = known[each]
    return hashed


def _hash(text: str) -> int:
    """Return a 32-bit hash that is the same in every process, as Python's own is not."""
    value = _START
    for byte in text.encode():
        value = (value ^ byte) * _BASE & 0xFFFFFFFF
    return value
