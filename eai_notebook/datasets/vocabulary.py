"""The vocabulary of the query and document generators, with known topics.

A *meaning* is what words have in common; people who want the same thing use other words for
it (synonyms), other forms of a word (endings), and mistype. Which words share a meaning is
planted, so that what a search should find is known.
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
    """Return `count` different words of two or three syllables.

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
    at = int(rng.integers(len(word)))
    letter = _pick(rng, [letter for letter in _LETTERS if letter != word[at]])
    return word[:at] + letter + word[at + 1 :]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
