"""Install an example package of `tests/extensions` into a folder of a test."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from paths import TESTS

if TYPE_CHECKING:
    from pathlib import Path


def install(name: str, target: Path) -> Path:
    """Install `name`, without looking anywhere for it; return the folder for ``PYTHONPATH``."""
    options = [
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    where = str(TESTS / "extensions" / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, where],
        check=True,
    )
    return target
