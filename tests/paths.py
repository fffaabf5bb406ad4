"""Folders that tests use, wherever the test lies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent
REPOSITORY: Final = TESTS.parent
RANKS: Final = TESTS / "ranks"
"""Programs that run on ranks."""
