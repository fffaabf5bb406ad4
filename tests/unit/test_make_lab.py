"""`make lab` opens the quickstart, with nothing beside it that looks like our panel and is not."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_lab_opens_the_quickstart() -> None:
    made = (ROOT / "Makefile").read_text()
    assert "default_url=/lab/tree/01_quickstart.ipynb" in made
    assert (ROOT / "notebooks" / "01_quickstart.ipynb").exists()


def test_ipyparallels_own_tab_is_off_there() -> None:
    folder = ROOT / "tools" / "jupyter"
    assert "abspath tools/jupyter" in (ROOT / "Makefile").read_text()
    kept = json.loads((folder / "labconfig" / "page_config.json").read_text())
    assert kept["disabledExtensions"] == {"ipyparallel-labextension": True}
