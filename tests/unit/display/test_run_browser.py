from __future__ import annotations

import ast
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from synthetic import run_record, run_rows

from eai_notebook.display import run_browser
from eai_notebook.errors import EaiError
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.telemetry.messages import RunBegan, RunEnded

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A quick run, and a later one whose input is slow; returns the names of their folders."""
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    quick = run_record(tmp_path, run_rows(2, 100), name="a-quick")
    slow = run_record(tmp_path, run_rows(2, 100, input=0.008), name="b-slow")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    return [quick.path.name, slow.path.name]


def test_runs_are_listed_and_what_cannot_be_read_is_left_out(runs: list[str]) -> None:
    entries = {entry["name"]: entry for entry in run_browser.listed()}
    assert set(entries) == {"a-quick", "b-slow"}
    assert entries["b-slow"]["folder"] == runs[1]
    assert (entries["b-slow"]["steps"], entries["b-slow"]["state"]) == (100, "done")
    json.dumps(run_browser.listed(), allow_nan=False)


def test_a_run_has_a_note_and_tags(runs: list[str]) -> None:
    run_browser.noted(runs[0], " the new shards\n")
    run_browser.tagged(runs[0], "fp16, #baseline fp16")
    run_browser.COMMANDS["star"](folder=runs[0], on=True)
    entries = {entry["folder"]: entry for entry in run_browser.listed()}
    assert entries[runs[0]]["note"] == "the new shards"
    assert entries[runs[0]]["tags"] == ["fp16", "baseline"]
    assert entries[runs[0]]["starred"]
    assert (entries[runs[1]]["note"], entries[runs[1]]["tags"]) == ("", [])
    run_browser.noted(runs[0], "")
    run_browser.tagged(runs[0], "")
    entry = next(each for each in run_browser.listed() if each["folder"] == runs[0])
    assert (entry["note"], entry["tags"]) == ("", [])


def test_two_runs_are_compared_part_by_part(runs: list[str]) -> None:
    found = run_browser.compared(*runs)
    json.dumps(found, allow_nan=False)
    change = found["parts"][PARTS.index("input")]
    assert change["sure"]
    assert change["delta_ms"] == pytest.approx(7.5, rel=0.05)
    assert re.match(r"a step is 7\.\d+ ms longer: `input` is", found["sentence"])
    assert run_browser.compared(runs[1], runs[0])["sentence"].startswith("a step is 7.")
    assert "shorter" in run_browser.compared(runs[1], runs[0])["sentence"]
    assert run_browser.compared(runs[0], runs[0])["sentence"].startswith("no sure change")
    assert found["before"]["run"]["name"] == "a-quick"
    assert found["differs"] == []
    for each in (found["step"], *found["parts"]):
        assert each["delta_ms"] == pytest.approx(each["after_ms"] - each["before_ms"])
    for place, each in enumerate(found["parts"]):
        assert each["before_ms"] == pytest.approx(found["before"]["means_ms"][place], rel=1e-3)
        assert each["after_ms"] == pytest.approx(found["after"]["means_ms"][place], rel=1e-3)


def test_a_page_stands_alone(runs: list[str]) -> None:
    saved = run_browser.saved_page(runs[1])
    assert saved["name"] == f"{runs[1]}.html"
    assert saved["text"].startswith("<!DOCTYPE html>")
    assert "input-bound" in saved["text"] or "waiting" in saved["text"]
    assert not re.search(r"https?://(?!www\.w3\.org)", saved["text"])
    assert "<script" not in saved["text"]


def test_only_runs_of_the_shelf_can_be_named(runs: list[str], tmp_path: Path) -> None:
    assert run_browser.opened(runs[0])["run"]["name"] == "a-quick"
    outside = run_record(tmp_path.parent / f"{tmp_path.name}-outside", run_rows(1, 3))
    for name in ("nothing", f"../{outside.path.parent.name}/{outside.path.name}", "broken/.."):
        with pytest.raises(EaiError, match="there is no run"):
            run_browser.opened(name)


def test_a_run_is_renamed_starred_and_deleted(runs: list[str]) -> None:
    first = runs[0]
    run_browser.renamed(first, "best so far")
    run_browser.starred(first, on=True)
    entry = next(run for run in run_browser.listed() if run["folder"] == first)
    assert (entry["name"], entry["starred"]) == ("best so far", True)
    with pytest.raises(EaiError, match="needs a name"):
        run_browser.renamed(first, " ")
    run_browser.deleted(first)
    assert first not in [run["folder"] for run in run_browser.listed()]
    with pytest.raises(EaiError, match="there is no run"):
        run_browser.deleted(first)


def test_a_picture_comes_with_the_code_that_shows_it_again(runs: list[str]) -> None:
    made = run_browser.picture(runs[0])
    assert set(made["data"]) == {"text/html", "text/plain"}
    assert runs[0] in made["code"]
    with pytest.raises(EaiError, match="no record of run"):
        run_browser.picture("nothing")


def test_a_folder_of_any_name_is_shown_and_not_run(runs: list[str], tmp_path: Path) -> None:
    name = 'x") or print("run'
    (tmp_path / runs[0]).rename(tmp_path / name)
    code = run_browser.picture(name)["code"]
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert isinstance(call.args[0], ast.Constant)
    assert str(call.args[0].value).endswith(name)


def test_what_the_user_says_of_a_run_that_goes_on_stays(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    record = RunRecord.create(tmp_path, RunBegan("r12345678", 0, 1, "fit", "here", 1))
    record.add(RunBegan("r12345678", 0, 1, "fit", "here", 1))
    run_browser.renamed(record.path.name, "best so far")
    run_browser.starred(record.path.name, on=True)
    with pytest.raises(EaiError) as refused:
        run_browser.deleted(record.path.name)
    assert refused.value.code == "run-open"
    record.add(RunEnded("r12345678", 0, "done", 0.0))
    (entry,) = run_browser.listed()
    assert (entry["name"], entry["starred"], entry["state"]) == ("best so far", True, "done")
    assert RunRecord(record.path).info.name == "best so far"


def test_a_record_that_was_cut_off_can_be_deleted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    record = RunRecord.create(tmp_path, RunBegan("r12345678", 0, 1, "fit", "here", 1))
    for path in (*record.path.iterdir(), record.path):
        os.utime(path, (0, 0))
    run_browser.deleted(record.path.name)
    assert run_browser.listed() == []
