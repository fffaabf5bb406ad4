"""`%eai submit`: which cells go, and what they need that cannot go with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.jobs.cell_selection import choose, history_of, not_carried
from eai_notebook.jobs.submit import submitted_cells

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.jobs.start_job import Start

INPUTS = [
    "",
    "table = [1, 2]\nlog = open('/dev/null')",
    "%eai push table log",
    "%%distributed --setup\nimport keras, helper\nwidth = 4",
    "%%distributed\nfile = open('rows.txt')\nbias = 1",
    "%eai pull bias",
    "%%distributed\nmodel = keras.layers.Dense(width + bias)",
    "%%distributed\nprint([row for row in table], file, log, model, gone, file=log)",
    "%eai submit",
]


def start(asked: str | None, **more: Any) -> Start:
    return submitted_cells(
        INPUTS, asked, {"table": [1, 2]}, None, **{"size": 2, "where": {}, "launcher": None, **more}
    )


def test_the_default_is_the_setup_cells_and_the_last_one() -> None:
    assert [cell.number for cell in choose(history_of(INPUTS), None)] == [3, 7]


def test_a_cell_that_ran_twice_goes_once() -> None:
    ran = history_of(["", "%%distributed -s\nx = 1", "%%distributed -s\nx = 1", "now"])
    assert [cell.number for cell in choose(ran, "setup", ["x = 1", "y = 2"])] == [0, 2]


def test_what_cannot_be_sent_is_named_with_where_it_comes_from() -> None:
    history = history_of(INPUTS)
    with open("/dev/null") as log:  # noqa: PTH123
        found = not_carried(choose(history, "setup,7"), history, {"table": [1, 2], "log": log})
    assert found == [
        "`file` (an open file, made by cell 4)",
        "`gone` (made by no cell)",
        "`log` (an open file that was pushed)",
        "`model` (made by cell 6)",
        "`table` (a list that was pushed)",
    ]
    assert not_carried(choose(history, "setup,4,6"), history, {}) == []


def test_nothing_is_sent_while_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EaiError, match="`bias` ") as raised:
        start("setup,6")
    assert raised.value.code == "job-not-carried"
    assert list(tmp_path.iterdir()) == []


def test_cells_are_sent_as_text_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "helper.py").write_text("")
    job = start("setup,4,6").make_job(tmp_path / "out")
    names = sorted(file.name for file in (job.sent / "cells").iterdir())
    assert names == ["01.py", "02-cell-3.py", "03-cell-4.py", "04-cell-6.py", "05.py"]
    assert (job.sent / "cells" / "01.py").read_text() == "%load_ext eai_notebook\n%eai up -n 2\n"
    assert (job.sent / "modules" / "helper.py").exists()
    assert job.work == tmp_path


@pytest.mark.parametrize("asked", ["9", "x", "setup,0"])
def test_a_cell_that_there_is_not(asked: str) -> None:
    with pytest.raises(EaiError) as raised:
        start(asked)
    assert raised.value.code == "cell-unknown"
