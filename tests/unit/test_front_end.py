"""The front end's sources: constants that Python has too, and the lock file."""

from __future__ import annotations

import runpy

from paths import REPOSITORY


def test_the_generated_constants_are_up_to_date() -> None:
    made = runpy.run_path(str(REPOSITORY / "tools" / "generate_front.py"))
    assert made["TARGET"].read_text() == made["generated"](), "run tools/generate_front.py"


def test_the_lock_file_names_no_registry() -> None:
    lock = (REPOSITORY / "labextension" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert ".tgz" not in lock
