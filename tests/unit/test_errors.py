"""The error that users meet, and that it survives a journey between processes."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paths import REPOSITORY

import eai_notebook
from eai_notebook.errors import EaiError
from eai_notebook.io.pipeline.epoch import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(eai_notebook.__file__).parent
CODED_ROOMS = (
    "advice",
    "bookkeeping.py",
    "cli",
    "clicklog",
    "cluster",
    "collective",
    "compression",
    "datasets",
    "display",
    "elastic",
    "engine",
    "files.py",
    "forecast",
    "formats",
    "horovod_build",
    "io",
    "jobs",
    "ledger",
    "magics",
    "metrics.py",
    "models",
    "parameter_servers",
    "process_lease.py",
    "schedules",
    "session",
    "telemetry",
    "terminal",
    *(f"train/{source.name}" for source in (PACKAGE / "train").glob("*.py")),
)
"""Rooms whose errors all have a code; `docs/errors.md` describes the codes of these rooms."""


@pytest.mark.parametrize(
    "error", [EaiError("no group is running", "start one", code="group-not-running"), ClosedError()]
)
def test_it_is_pickled_whole(error: EaiError) -> None:
    vars(error)["row"] = 7
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == {
        "what": error.what,
        "remedy": error.remedy,
        "code": error.code,
        "row": 7,
    }


def _errors_of(source: Path) -> Iterator[tuple[int, ast.expr | None]]:
    """Yield the line and the code of each error that a file makes, in subclasses too."""
    tree = ast.parse(source.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    subclasses = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "EaiError" for base in node.bases)
    ]
    initializers = {
        id(call)
        for subclass in subclasses
        for call in ast.walk(subclass)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__"
    }
    for call in calls:
        if ast.unparse(call.func) in ("EaiError", "TrainingStopped") or id(call) in initializers:
            yield call.lineno, next((one.value for one in call.keywords if one.arg == "code"), None)


def _sources(room: Path) -> list[Path]:
    return sorted(room.rglob("*.py")) if room.is_dir() else [room]


def _codes_of_rooms() -> dict[str, list[str]]:
    """Return for each code in the sources the places that use it; fail where one is missing."""
    found: dict[str, list[str]] = {}
    for room in CODED_ROOMS:
        for source in _sources(PACKAGE / room):
            for line, code in _errors_of(source):
                where = f"{source.relative_to(PACKAGE)}:{line}"
                assert isinstance(code, ast.Constant), f"{where} has no literal code"
                found.setdefault(str(code.value), []).append(where)
    return found


def test_every_error_has_a_code_that_the_page_explains() -> None:
    found = _codes_of_rooms()
    assert [code for code in found if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []
    page = (REPOSITORY / "docs" / "errors.md").read_text()
    explained = re.findall(r"^\| `([^`]+)` \| .+ \| .+ \|$", page, re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert {code: found[code] for code in found.keys() - set(explained)} == {}
    assert sorted(set(explained) - found.keys()) == []
