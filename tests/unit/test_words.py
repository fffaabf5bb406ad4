"""Plain technical English: words that the project avoids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from paths import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

AVOIDED: Final = {
    "told": "given, passed, set, reported",
    "tell|tells|telling": "report, return, pass, set",
    "lend|lends|lent|lending|lender": "borrow from a buffer pool, acquire",
    "whoever": "the user, the caller, the process that",
    "deaf": "unresponsive",
    "for ever": "without end",
}
"""Words, and words to use instead; also searched as parts of identifiers. `tell()` of streams is Python's."""

_EXEMPT: Final = ("def tell(self)", "cannot_tell_pct")
_TEXTS: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def sources() -> Iterator[Path]:
    """Yield the texts that users and contributors read, and the sources."""
    yield from (REPOSITORY / name for name in _TEXTS)
    for folder, kinds in (
        ("docs", ("*.md",)),
        ("eai_notebook", ("*.py", "*.h", "*.c")),
        ("labextension/src", ("*.ts", "*.tsx")),
        ("benchmarks", ("*.py",)),
        ("notebooks", ("*.ipynb",)),
        ("tests", ("*.py",)),
        ("tools", ("*",)),
    ):
        for kind in kinds:
            found = sorted((REPOSITORY / folder).rglob(kind))
            yield from (path for path in found if _is_text(path) and path != Path(__file__))


def _is_text(path: Path) -> bool:
    return path.is_file() and path.parent.name != "__pycache__"


@pytest.mark.parametrize("words", AVOIDED)
def test_a_word_is_avoided(words: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z.])(?:{words})(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line) and not any(exempt in line for exempt in _EXEMPT)
    ]
    assert found == [], f"write {AVOIDED[words]}"
