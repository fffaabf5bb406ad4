"""Generate and read query-click logs with known relevance.

A row is ``query <tab> clicked title [<tab> title that was shown but not clicked]...``; all rows have
the same number of titles.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.datasets.vocabulary import another_form, make_words, mistyped
from eai_notebook.errors import EaiError
from eai_notebook.io.sources.find import Pattern, find_files

if TYPE_CHECKING:
    import os

TITLES: Final = "titles.txt"
_TRUTH: Final = "truth.json"
_MIN_FIELDS: Final = 2  # the query and the clicked title


@dataclass(frozen=True)
class QueryClicks:
    """Rows of a query-click log.

    Attributes:
        queries: The query of each row.
        clicked: The clicked title of each row.
        shown: The titles of each row that were shown but not clicked, equally many in all rows.
    """

    queries: list[str] = field(default_factory=list)
    clicked: list[str] = field(default_factory=list)
    shown: list[list[str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.queries)

    def part(self, rank: int, size: int) -> QueryClicks:
        """Return every `size`-th row from row `rank` on, equally many for each rank."""
        rows = slice(rank, len(self) - len(self) % size, size)
        return QueryClicks(self.queries[rows], self.clicked[rows], self.shown[rows])


def read_queries(pattern: Pattern) -> QueryClicks:
    r"""Read query-click logs.

    Args:
        pattern: A glob, a folder, a file, or a list of files, paths or URLs; plain UTF-8 text.

    Raises:
        EaiError: No such file, or a row with too few fields or not as many as the first one.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "clicks.tsv"
        >>> _ = path.write_text("red shoes\tShoes, red\tBlue shoes\n")
        >>> read_queries(path).clicked
        ['Shoes, red']
    """
    log = QueryClicks()
    width = None
    for path in find_files(pattern):
        with io.TextIOWrapper(path.open(), "utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.rstrip("\n").split("\t")
                width = width or len(fields)
                if len(fields) != width or width < _MIN_FIELDS or not all(fields):
                    raise EaiError(
                        f"{path} row {number} has {sum(map(bool, fields))} fields with text "
                        f"instead of {max(width, _MIN_FIELDS)}",
                        "write a query, the clicked title and equally many other titles, "
                        "separated by tabs",
                        code="row-bad",
                    )
                log.queries.append(fields[0])
                log.clicked.append(fields[1])
                log.shown.append(fields[2:])
    return log


@dataclass(frozen=True)
class QueryTruth:
    """The description of a generated log, stored as ``truth.json``.

    Attributes:
        seed: The seed of all random numbers.
        titles: Titles in ``titles.txt``.
        train_rows: Rows in ``train.tsv``.
        test_rows: Rows in ``test.tsv``; none of their queries is in the training rows.
    """

    seed: int
    titles: int
    train_rows: int
    test_rows: int


def make_queries(
    folder: str | os.PathLike[str],
    *,
    titles: int = 2000,
    rows: int = 40_000,
    test_rows: int = 4000,
    shown: int = 2,
    seed: int = 0,
) -> QueryTruth:
    """Write query-click logs in which the clicked title often shares no word with its query.

    Each meaning has a word, which titles use, and a synonym, which only queries use. A title has
    four meanings; a query has two or three of them, half of the time as the synonym, sometimes with
    another ending or a typing error.

    Args:
        folder: The folder of ``train.tsv``, ``test.tsv`` and ``titles.txt``; created if it does
            not exist.
        titles: The number of titles.
        rows: Training rows.
        test_rows: Held-out rows.
        shown: Titles in a row that were not clicked; they share a meaning with the clicked one.
        seed: Another seed draws other words, titles and clicks.

    Raises:
        EaiError: A number is out of range.
    """
    if min(titles // 10, rows, test_rows) < 1 or shown < 0 or seed < 0:
        raise EaiError(
            f"{titles} titles, {rows} and {test_rows} rows, {shown} shown, seed {seed}",
            "use at least 10 titles, 1 row and 1 test row, and no negative numbers",
            code="option-invalid",
        )
    rng = np.random.default_rng([seed, 2])
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    generator = _TitleModel(rng, titles)
    seen: set[str] = set()
    _write(target / "train.tsv", [generator.row(rng, shown, seen, new=False) for _ in range(rows)])
    _write(
        target / "test.tsv", [generator.row(rng, shown, seen, new=True) for _ in range(test_rows)]
    )
    (target / TITLES).write_text("\n".join(generator.titles) + "\n", encoding="utf-8")
    truth = QueryTruth(seed, titles, rows, test_rows)
    (target / _TRUTH).write_text(json.dumps(asdict(truth), indent=2) + "\n")
    return truth


class _TitleModel:
    """The titles' meanings, and the word and synonym of each meaning."""

    _MEANINGS = 4  # of a title

    def __init__(self, rng: np.random.Generator, titles: int) -> None:
        count = max(titles // 5, self._MEANINGS * 2)
        words = make_words(rng, 2 * count)
        self._words, self._synonyms = words[:count], words[count:]
        popularity = 1 / np.arange(10, count + 10)
        self._meanings: list[tuple[int, ...]] = []
        taken = set()
        while len(self._meanings) < titles:
            drawn = rng.choice(
                count, self._MEANINGS, replace=False, p=popularity / popularity.sum()
            )
            key = tuple(sorted(drawn.tolist()))
            if key not in taken:
                taken.add(key)
                self._meanings.append(tuple(drawn.tolist()))
        self.titles = [" ".join(self._words[each] for each in title) for title in self._meanings]
        self._with: list[list[int]] = [[] for _ in range(count)]
        for number, title in enumerate(self._meanings):
            for meaning in title:
                self._with[meaning].append(number)

    def row(self, rng: np.random.Generator, shown: int, seen: set[str], *, new: bool) -> list[str]:
        """Draw a row; if `new`, its query is one that was not drawn before."""
        while True:
            title = int(rng.integers(len(self.titles)))
            query = self._query(rng, title)
            if not (new and query in seen):
                break
        seen.add(query)
        others = [self._like(rng, title) for _ in range(shown)]
        return [query, self.titles[title], *(self.titles[other] for other in others)]

    def _query(self, rng: np.random.Generator, title: int) -> str:
        count = int(rng.integers(2, 4))
        chosen = rng.choice(self._meanings[title], count, replace=False)
        return " ".join(self._word(rng, int(meaning)) for meaning in chosen)

    def _word(self, rng: np.random.Generator, meaning: int) -> str:
        how, synonym = rng.random(2)
        word = (self._synonyms if synonym < 0.5 else self._words)[meaning]  # noqa: PLR2004
        if how < 0.2:  # noqa: PLR2004 -- a share of the words
            return another_form(rng, word)
        return mistyped(rng, word) if how < 0.3 else word  # noqa: PLR2004

    def _like(self, rng: np.random.Generator, title: int) -> int:
        """Return another title, one that shares a meaning if possible."""
        shared = self._with[int(rng.choice(self._meanings[title]))]
        others = [each for each in shared if each != title] or [(title + 1) % len(self.titles)]
        return others[int(rng.integers(len(others)))]


def _write(path: Path, rows: list[list[str]]) -> None:
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
