"""The programs in `docs/` run on two ranks as they stand, on small files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from paths import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]
DOCS = REPOSITORY / "docs"


def changed_program(page: str) -> str:
    """Return the program that a page's diff comes to."""
    diff = (DOCS / page).read_text().split("```diff\n", 1)[1].split("```", 1)[0]
    lines = [line[1:] for line in diff.splitlines() if not line.startswith("-")]
    return "\n".join(line for line in lines if not line.startswith("%%"))


@pytest.mark.parametrize(
    ("page", "reported"),
    [
        ("bring-your-own-keras.md", "[len(history.epoch), scores[2], words.get_vocabulary()[:3]]"),
        ("coming-from-horovod.md", "[model.get_weights()[0].ravel()[:3].tolist(), len(pixels)]"),
    ],
)
def test_a_program_of_the_docs_trains(
    page: str, reported: str, run_ranks: RunRanks, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["good", "fine", "bad", "poor", "film"])
    texts = np.array([" ".join(rng.choice(words, 4)) for _ in range(201)])
    np.savez(tmp_path / "reviews.npz", texts=texts, stars=np.char.count(texts, "good") > 0)
    pictures = rng.integers(0, 255, (65, 32, 32, 3)).astype("float32")
    np.savez(tmp_path / "pictures.npz", pixels=pictures, labels=np.arange(65) % 10)
    program = changed_program(page).replace("20000", "161").replace("epochs=5", "epochs=2")
    first, second = run_ranks(f"{program}\nreport({reported})\n", 2)
    assert first == second
    assert list(tmp_path.glob("*.keras"))
