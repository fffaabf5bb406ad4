"""Plain technical English: words that the package, its documentation and its changelog avoid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AVOIDED: Final = {
    "told": "given, passed, set, reported",
    "tell|tells|telling": "report, return, pass, set",
    "lend|lends|lent|lending|lender": "borrow from a buffer pool, acquire",
    "whoever": "the user, the caller, the process that",
    "deaf": "unresponsive",
    "for ever": "without end",
}
"""Words, and words to use instead; also searched as parts of identifiers. `tell()` of streams is Python's."""

_TEXTS: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def sources() -> Iterator[Path]:
    """Yield the texts that users and contributors read, and the sources."""
    yield from (REPOSITORY / name for name in _TEXTS)
    for folder, kinds in (
        ("docs", ("*.md",)),
        ("eai_notebook", ("*.py", "*.h", "*.c")),
        ("labextension/src", ("*.ts", "*.tsx")),
    ):
        for kind in kinds:
            yield from sorted((REPOSITORY / folder).rglob(kind))


@pytest.mark.parametrize("words", AVOIDED)
def test_a_word_is_avoided(words: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z.])(?:{words})(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line) and "def tell(self)" not in line
    ]
    assert found == [], f"write {AVOIDED[words]}"
