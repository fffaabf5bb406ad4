"""Commands and options that the documentation names exist."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import typer
from paths import REPOSITORY

from eai_notebook.cli import app
from eai_notebook.magics import parser

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = (*sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "README.md")
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def calls(program: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield page, command and options of each call of `program` in a page's code."""
    for page in PAGES:
        text = page.read_text()
        spans = [
            *re.findall(r"`([^`\n]+)`", text),
            *re.findall(r"^[ !]*([%\w].*)$", text, re.MULTILINE),
        ]
        for span in spans:
            found = re.match(rf"!?{re.escape(program)} ([a-z][a-z-]*)\b(.*)", span)
            if found:
                line = re.split(r"\s{2,}|\s#|`", found[2])[0]
                yield page.name, found[1], FLAG.findall(line)


def test_magics_of_the_docs_exist() -> None:
    known = {name: {*parser._flags(name), "--help"} for name in parser.COMMANDS}
    wrong = [
        (page, command, flag)
        for page, command, flags in calls("%eai")
        for flag in [None, *flags]
        if command not in known or (flag is not None and flag not in known[command])
        if page != "extending.md"  # has options of other packages' launchers
    ]
    assert wrong == []


def test_cell_options_of_the_docs_exist() -> None:
    wrong = [
        (page.name, flag)
        for page in PAGES
        for line in re.findall(r"%%distributed([^`\n]*)", page.read_text())
        for flag in FLAG.findall(re.split(r"\s{2,}", line)[0])
        if flag not in parser.DISTRIBUTED
    ]
    assert wrong == []


def test_commands_of_the_docs_exist() -> None:
    top: Any = typer.main.get_command(app)
    wrong = []
    for page, name, flags in calls("eai-notebook"):
        command = top.commands.get(name)
        nested = getattr(command, "commands", {}).values()
        options = {"--help"} | {
            option
            for each in (command, *nested)
            for parameter in getattr(each, "params", ())
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        wrong += [
            (page, name, flag)
            for flag in [None, *flags]
            if command is None or (flag is not None and flag not in options)
        ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist(page: Any) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_documented_scripts_exist() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "benchmarks", "notebooks", "tests", "tools"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(
            r"\b((?:benchmarks|notebooks|tools)/[\w/]+\.(?:py|ipynb))", page.read_text()
        )
    }
    assert {(page, path) for page, path in named if path not in tracked} == set()
