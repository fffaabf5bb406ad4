"""What is written twice, in Python and in TypeScript, must say the same."""

from __future__ import annotations

import re
from pathlib import Path

from eai_notebook.display.palette import COLOURS, MEANINGS
from eai_notebook.display.panel import CONTROL_TARGET, PUSH_ID, PUSH_TARGET
from eai_notebook.display.static import FEWEST_SLOTS, MOST_THICK, RANKS_HEIGHT

FRONT = Path(__file__).parents[1] / "labextension"


def source(name: str) -> str:
    return (FRONT / "src" / name).read_text()


def test_colours_and_meanings_of_the_parts() -> None:
    told = dict(
        re.findall(r"^  (\w+): '([^']*)',?$", source("palette.ts").split("};")[0], re.MULTILINE)
    )
    assert told == COLOURS
    rest = source("palette.ts").split("};")[1]
    assert dict(re.findall(r"^  (\w+): '([^']*)',?$", rest, re.MULTILINE)) == MEANINGS


def test_names_of_the_comms() -> None:
    told = dict(re.findall(r"^const (\w+) = '([^']*)';$", source("link.ts"), re.MULTILINE))
    assert told == {
        "PUSH_TARGET": PUSH_TARGET,
        "PUSH_ID": PUSH_ID,
        "CONTROL_TARGET": CONTROL_TARGET,
    }


def test_measures_of_the_chart() -> None:
    told = dict(re.findall(r"^const (\w+) = (\d+);$", source("chart.ts"), re.MULTILINE))
    assert int(told["FEWEST_SLOTS"]) == FEWEST_SLOTS
    assert int(told["MOST_THICK"]) == MOST_THICK
    assert int(told["RANKS_HEIGHT"]) == RANKS_HEIGHT


def test_the_lock_file_names_no_registry() -> None:
    lock = (FRONT / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert ".tgz" not in lock
