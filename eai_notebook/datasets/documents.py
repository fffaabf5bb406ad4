"""Generate and read documents as word counts in the svmlight format, with known topics.

A row is ``topic word:count word:count ...`` with words numbered from 1, as in published collections
such as RCV1; ``sklearn.datasets.load_svmlight_file`` reads it too.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.find import Pattern, find_files

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

_SUFFIXES: Final = frozenset({".svm", ".txt"})


@dataclass(frozen=True)
class Documents:
    """Word counts of documents.

    Attributes:
        counts: float32 ``[documents, vocabulary]``.
        topics: int32 ``[documents]``.
    """

    counts: NDArray[np.float32]
    topics: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.topics)

    def part(self, rank: int, size: int) -> Documents:
        """Return every `size`-th document from number `rank` on, equally many for each rank."""
        rows = slice(rank, len(self) - len(self) % size, size)
        return Documents(self.counts[rows], self.topics[rows])


def read_documents(pattern: Pattern, vocabulary: int) -> Documents:
    r"""Read word counts in the svmlight format into memory.

    Args:
        pattern: A glob, a folder, a file, or a list of files, paths or URLs.
        vocabulary: The number of words.

    Raises:
        EaiError: No such file, or a bad row.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "documents.svm"
        >>> _ = path.write_text("3 1:2 4:1\n")
        >>> found = read_documents(path, vocabulary=5)
        >>> found.topics.tolist(), found.counts.tolist()
        ([3], [[2.0, 0.0, 0.0, 1.0, 0.0]])
    """
    rows, topics = [], []
    for path in find_files(pattern, _SUFFIXES):
        with io.TextIOWrapper(path.open(), "utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                topic, counts = _row(path, number, line, vocabulary)
                topics.append(topic)
                rows.append(counts)
    return Documents(np.stack(rows), np.asarray(topics, np.int32))


def _row(path: File, number: int, line: str, vocabulary: int) -> tuple[int, NDArray[np.float32]]:
    counts = np.zeros(vocabulary, np.float32)
    # A # begins a comment.
    topic, *pairs = line.partition("#")[0].split() or [""]
    try:
        for pair in pairs:
            word, _, count = pair.partition(":")
            # (Index -1 would be the last word.)
            counts[range(vocabulary)[int(word) - 1] if int(word) else vocabulary] = float(count)
        return int(topic), counts
    except (ValueError, IndexError) as error:
        raise EaiError(
            f"{path} row {number} is not a document ({error})",
            f"a row is `topic word:count ...`, with words from 1 to {vocabulary}",
            code="row-bad",
        ) from None


def make_documents(
    folder: str | os.PathLike[str],
    *,
    documents: int = 12_000,
    vocabulary: int = 2000,
    topics: int = 20,
    words: int = 60,
    seed: int = 0,
) -> None:
    """Write documents with known topics, in which many words belong to no topic.

    A topic has preferred words. About half of a document's words come from its topic, some from a
    second topic, and the rest from a distribution that all topics share. So it is known which
    documents belong together, while common words say little about it.

    Args:
        folder: The folder of ``train.svm`` and ``test.svm`` (one document in six); created if
            it does not exist.
        documents: Documents in both files together.
        vocabulary: The number of words.
        topics: The number of topics, equally frequent.
        words: The mean number of words in a document.
        seed: Another seed draws other topics and documents.

    Raises:
        EaiError: A number is out of range.
    """
    if min(documents // 6, vocabulary // topics, topics, words) < 1 or seed < 0:
        raise EaiError(
            f"{documents} documents of {words} words out of {vocabulary} on {topics} topics, "
            f"seed {seed}",
            "give at least 6 documents, a word for each topic, and nothing negative",
            code="option-invalid",
        )
    rng = np.random.default_rng([seed, 3])
    shared = rng.permutation(1 / np.arange(1, vocabulary + 1))
    shared /= shared.sum()
    # Concentrated on about a tenth of the words, common and rare ones alike.
    preferred = rng.dirichlet(np.full(vocabulary, 0.1) * vocabulary * shared, topics)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    held_out = documents // 6
    for name, count in (("train.svm", documents - held_out), ("test.svm", held_out)):
        lines = []
        for _ in range(count):
            topic = int(rng.integers(topics))
            second = preferred[int(rng.integers(topics))]
            mixed = 0.5 * preferred[topic] + 0.1 * second + 0.4 * shared
            drawn = rng.multinomial(max(int(rng.poisson(words)), 5), mixed)
            found = np.flatnonzero(drawn)
            lines.append(f"{topic} " + " ".join(f"{word + 1}:{drawn[word]}" for word in found))
        (target / name).write_text("\n".join(lines) + "\n")
