"""What is written twice, in Python and in TypeScript, must say the same."""

from __future__ import annotations

import re

from paths import REPOSITORY

from eai_notebook.compression.wire_registry import wire_names
from eai_notebook.display.axis import FEWEST_SLOTS
from eai_notebook.display.heat_map import SCALE
from eai_notebook.display.live_run import RUN_MIME
from eai_notebook.display.palette import COLOURS, MEANINGS
from eai_notebook.display.panel_channel import CONTROL_TARGET, PUSH_ID, PUSH_TARGET
from eai_notebook.display.static_html import MOST_THICK, RANKS_HEIGHT
from eai_notebook.display.summary_lines import WAITS

FRONT = REPOSITORY / "labextension"


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


def test_name_of_a_running_runs_output() -> None:
    (name,) = re.findall(r"^const RUN_MIME = '([^']*)';$", source("output.ts"), re.MULTILINE)
    assert name == RUN_MIME


def test_measures_of_the_chart() -> None:
    told = dict(re.findall(r"^const (\w+) = (\d+);$", source("chart.ts"), re.MULTILINE))
    found = re.search(r"FEWEST_SLOTS = (\d+)", source("scale.ts"))
    assert found
    assert int(found[1]) == FEWEST_SLOTS
    assert int(told["MOST_THICK"]) == MOST_THICK
    assert int(told["RANKS_HEIGHT"]) == RANKS_HEIGHT


def test_colours_of_the_heat_map() -> None:
    scale = next(line for line in source("heat.ts").splitlines() if line.startswith("const SCALE"))
    assert tuple(re.findall(r"#\w{6}", scale)) == SCALE


def test_words_for_what_waiting_cost() -> None:
    told = source("units.ts").split("const WAITS")[1]
    assert dict(re.findall(r"^  (\w+): '([^']*)',?$", told, re.MULTILINE)) == WAITS


def test_the_lock_file_names_no_registry() -> None:
    lock = (FRONT / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert ".tgz" not in lock


def test_what_gradients_can_travel_in() -> None:
    told = re.search(r"WIRES = \[([^]]*)\]", source("code.ts"))
    assert told is not None
    assert tuple(re.findall(r"'(\w+)'", told[1])) == wire_names()
