"""Words, endings and typing errors for the query and document generators.

A *meaning* has a word and a synonym; people also use other endings and make typing errors. The
generators know which words share a meaning, and so which title a query should find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_ONSETS: Final = (
    "b", "br", "c", "d", "dr", "f", "fl", "g", "gr", "h", "k", "l",
    "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v", "w",
)  # fmt: skip
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS: Final = ("", "", "n", "r", "l", "s", "m", "t")
_ENDINGS: Final = ("s", "er", "ing", "ed")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def make_words(rng: np.random.Generator, count: int) -> list[str]:
    """Return `count` distinct words of two or three syllables.

    Examples:
        >>> import numpy as np
        >>> words = make_words(np.random.default_rng(0), 100)
        >>> len(set(words)), all(word.isalpha() for word in words)
        (100, True)
    """
    found: dict[str, None] = {}
    while len(found) < count:
        syllables = int(rng.integers(2, 4))
        parts = [
            [_pick(rng, kind) for kind in (_ONSETS, _VOWELS, _CODAS)] for _ in range(syllables)
        ]
        found["".join(part for syllable in parts for part in syllable)] = None
    return list(found)


def another_form(rng: np.random.Generator, word: str) -> str:
    """Return `word` with another ending.

    Examples:
        >>> import numpy as np
        >>> another_form(np.random.default_rng(0), "plant").startswith("plant")
        True
    """
    return word + _pick(rng, _ENDINGS)


def mistyped(rng: np.random.Generator, word: str) -> str:
    """Return `word` with one letter replaced.

    Examples:
        >>> import numpy as np
        >>> wrong = mistyped(np.random.default_rng(0), "plant")
        >>> sum(a != b for a, b in zip("plant", wrong))
        1
    """
    index = int(rng.integers(len(word)))
    letter = _pick(rng, [letter for letter in _LETTERS if letter != word[index]])
    return word[:index] + letter + word[index + 1 :]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
