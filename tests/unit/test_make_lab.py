"""`make lab` opens the quickstart, with nothing beside it that looks like our panel and is not."""

from __future__ import annotations

import json

from paths import REPOSITORY


def test_make_lab_opens_the_quickstart() -> None:
    made = (REPOSITORY / "Makefile").read_text()
    assert "default_url=/lab/tree/01_quickstart.ipynb" in made
    assert (REPOSITORY / "notebooks" / "01_quickstart.ipynb").exists()


def test_ipyparallels_own_tab_is_off_there() -> None:
    folder = REPOSITORY / "tools" / "jupyter"
    assert "abspath tools/jupyter" in (REPOSITORY / "Makefile").read_text()
    kept = json.loads((folder / "labconfig" / "page_config.json").read_text())
    assert kept["disabledExtensions"] == {"ipyparallel-labextension": True}
