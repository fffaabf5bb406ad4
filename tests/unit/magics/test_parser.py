"""The line of `%eai`: completion, errors and help."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from synthetic import run_record, run_rows

from eai_notebook.errors import EaiError
from eai_notebook.magics.notebook_observer import NotebookWatcher
from eai_notebook.magics.parser import COMMANDS, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    made = InteractiveShell.instance()
    made.run_line_magic("load_ext", "eai_notebook")
    yield made
    InteractiveShell.clear_instance()


def test_a_run_is_advised_by_a_line(
    shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some runs"
    record = run_record(folder, run_rows(2, 60, transfer=0.030))
    shell.run_line_magic("eai", f"advise {record.path}")
    said = capsys.readouterr().out
    assert said.startswith("communication-bound")
    assert "\n1  " in said
    assert "expected: " in said


def test_a_step_is_forecast_by_a_line_and_its_receipt_kept(
    shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run_record(tmp_path / "runs", run_rows(2, 120, transfer=0.030))
    table, figure = tmp_path / "scaling.csv", tmp_path / "scaling.svg"
    line = f"forecast -n 2,4,900 --csv {table} --figure {figure} {record.path}"
    shell.run_line_magic("eai", line)
    said = capsys.readouterr().out
    assert "90 % band" in said
    assert "   900  no forecast: " in said
    assert len(table.read_text().splitlines()) == 4
    assert figure.stat().st_size > 1000
    (kept,) = record.path.glob("forecast-*.json")
    assert said.rstrip().endswith(kept.stem.removeprefix("forecast-"))
    shell.run_line_magic("eai", f"forecast {record.path}")
    assert "no forecast was made of this run" in capsys.readouterr().out


def test_a_trial_needs_a_group_and_a_score_none(
    shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    shell.run_line_magic("eai", "try")
    assert capsys.readouterr().out == "nothing was tried yet\n"
    with pytest.raises(EaiError) as caught:
        shell.run_line_magic("eai", "try 1")
    assert caught.value.code == "group-not-running"


def offered(shell: Any, line: str) -> list[tuple[str, str]]:
    with provisionalcompleter():
        return [(c.text, c.type) for c in shell.Completer.completions(line, len(line))]


@pytest.mark.parametrize(
    ("line", "texts", "kind"),
    [
        ("%eai ", list(COMMANDS), "command"),
        ("%eai re", ["restart", "report"], "command"),
        ("%eai up --w", ["--wire"], "option"),
        ("%eai up --wire ", ["fp32", "fp16", "bf16", "int8", "int4", "auto"], "value"),
        ("%eai up --mode p", ["ps"], "value"),
        ("%eai pull --", ["--rank"], "option"),
        ("%%distributed --r", ["--ranks", "--restart"], "option"),
    ],
)
def test_the_tab_key_offers_ours_only_and_says_what_it_is(
    shell: Any, line: str, texts: list[str], kind: str
) -> None:
    assert offered(shell, line) == [(text, kind) for text in texts]


def test_other_lines_are_completed_as_ever(shell: Any) -> None:
    shell.user_ns["evaluation"] = 1
    assert "evaluation" in [text for text, _ in offered(shell, "evalua")]
    assert "evaluation" in [text for text, _ in offered(shell, "%eai push evalua")]


@pytest.mark.parametrize(
    ("line", "code", "fact"),
    [
        ("upp", "line-invalid", "did you mean `%eai up`?"),
        ("zzz", "line-invalid", "`%eai?` lists"),
        ("up -n two", "line-invalid", "-n takes a whole number, not `two`"),
        ("up --wires fp16", "line-invalid", "did you mean `--wire`?"),
        ("up --wire fp17", "line-invalid", "--wire cannot be `fp17`: use one of fp32, fp16"),
        ("pull", "line-invalid", "`%eai pull` needs NAME"),
        ("up --keep 3", "line-invalid", "`3`"),
    ],
)
def test_a_mistake_names_the_correct_form(line: str, code: str, fact: str) -> None:
    with pytest.raises(EaiError) as caught:
        parse(line)
    assert caught.value.code == code
    assert fact in str(caught.value)


def test_help_has_all_commands_and_no_markup(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("eai", "")
    output = capsys.readouterr().out
    documented = shell.find_line_magic("eai").__doc__
    for name, words in COMMANDS.items():
        assert words in output
        assert f"%eai {name}" in documented
    assert "::" not in output
    shell.run_line_magic("eai", "up --help")
    output = capsys.readouterr().out
    assert "--mode {ring,ps}" in output
    assert "::" not in output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    panel: Any = None
    for screen, output in (
        (Terminal(), "\r\x1b[K1 s\r\x1b[K2 s\r\x1b[Kup\n"),
        (io.StringIO(), "up\n"),
    ):
        monkeypatch.setattr("sys.stdout", screen)
        watcher = NotebookWatcher(panel)
        watcher.progress("1 s")
        watcher.progress("2 s")
        watcher.progress("up", final=True)
        assert screen.getvalue() == output
