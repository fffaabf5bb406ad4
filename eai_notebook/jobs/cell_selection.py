"""Cells of a notebook's session that go into a job, and what they need that cannot go with them.

Cells travel as text. A variable that another cell made, or that was pushed, has no text; neither has an
open file. What is missing is found by reading the cells, before anything is sent.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nbformat import v4

from eai_notebook.errors import EaiError
from eai_notebook.jobs.cell_code import (
    assigned_names,
    cell_magic,
    is_on_ranks,
    needed_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbformat import NotebookNode

SETUP: Final = "setup"
NUMBER: Final = "eai_cell"
"""In a cell's metadata: its number in the notebook that it was taken from."""


@dataclass(frozen=True)
class Cell:
    """A cell that was run: its execution number (0 if another kernel ran it) and its text."""

    number: int
    source: str

    @property
    def is_setup(self) -> bool:
        """Whether a restart replays it.

        Examples:
            >>> Cell(1, "%%distributed -r 0 --setup").is_setup, Cell(2, "%%distributed").is_setup
            (True, False)
        """
        words = " ".join(cell_magic(self.source)).split()
        return is_on_ranks(self.source) and bool({"-s", "--setup"} & set(words))


def history_of(inputs: Sequence[str]) -> list[Cell]:
    """Return the cells of IPython's history, without the one that is running."""
    return [Cell(n, text) for n, text in enumerate(inputs[:-1]) if n and text.strip()]


def choose(history: Sequence[Cell], asked: str | None, setup: Sequence[str] = ()) -> list[Cell]:
    r"""Return the cells that `asked` names, in the order in which they ran.

    ``asked`` is as in ``setup,12`` or ``3-5,12``; by default it is the set-up cells and the last other
    cell that ran on the ranks. ``setup`` are set-up cells that this kernel has not run itself.

    Raises:
        EaiError: It names a cell that there is not.

    Examples:
        >>> ran = [Cell(1, "%%distributed -s\nx = 1"), Cell(2, "y = 1"), Cell(3, "%%distributed\nx")]
        >>> [cell.number for cell in choose(ran, None)], [cell.number for cell in choose(ran, "2-3")]
        ([1, 3], [2, 3])
    """
    on_ranks = [cell.number for cell in history if is_on_ranks(cell.source) and not cell.is_setup]
    words = (asked or ",".join([SETUP, *map(str, on_ranks[-1:])])).split(",")
    numbers: set[int] = set()
    chosen: list[Cell] = []
    for word in filter(None, (word.strip() for word in words)):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if word == SETUP:
            known = {cell.source for cell in history}
            texts = [f"%%distributed --setup\n{code}" for code in setup]
            chosen += [Cell(0, text) for text in texts if not _is_known(text, known)]
            numbers |= {cell.number for cell in history if cell.is_setup}
        elif found:
            numbers |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
        else:
            raise _no_cell(word)
    by_number = {cell.number: cell for cell in history}
    if missing := sorted(numbers - by_number.keys()):
        raise _no_cell(", ".join(map(str, missing)))
    chosen += [by_number[number] for number in sorted(numbers)]
    if not chosen:
        raise _no_cell(asked or "that ran on the ranks")
    last = {cell.source: index for index, cell in enumerate(chosen)}
    return [cell for index, cell in enumerate(chosen) if last[cell.source] == index]


def _is_known(text: str, known: set[str]) -> bool:
    code = text.partition("\n")[2].strip()
    return any(source.partition("\n")[2].strip() == code for source in known)


def _no_cell(which: str) -> EaiError:
    return EaiError(
        f"there is no cell {which}",
        "cells have the numbers in brackets before them: `--cells setup,12`",
        code="cell-unknown",
    )


def not_carried(
    cells: Sequence[Cell], history: Sequence[Cell], variables: Mapping[str, Any]
) -> list[str]:
    r"""Return what `cells` need that none of them makes, a line each with where it comes from.

    ``variables`` are the notebook's own, which say what a pushed one is.

    Examples:
        >>> ran = [Cell(1, "%%distributed\nw = 1"), Cell(2, "%eai push t"), Cell(3, "%%distributed\nw + t")]
        >>> not_carried(ran[2:], ran, {"t": [1]})
        ['`t` (a list that was pushed)', '`w` (made by cell 1)']
    """
    made: dict[bool, set[str]] = {True: set(), False: set()}
    missing: dict[tuple[bool, str], None] = {}
    for cell in cells:
        on_ranks = is_on_ranks(cell.source)
        for name in sorted(needed_names(cell.source) - made[on_ranks]):
            missing[on_ranks, name] = None
        made[on_ranks] |= assigned_names(cell.source)
    return [
        f"`{name}` ({_origin(name, history, variables, on_ranks=on_ranks)})"
        for on_ranks, name in missing
    ]


def _origin(
    name: str, history: Sequence[Cell], variables: Mapping[str, Any], *, on_ranks: bool
) -> str:
    value = variables.get(name)
    for cell in reversed(history):
        if on_ranks and re.search(rf"^%eai push\b.*\b{name}\b", cell.source, re.MULTILINE):
            kind = "an open file" if isinstance(value, io.IOBase) else f"a {type(value).__name__}"
            return f"{kind} that was pushed"
        if is_on_ranks(cell.source) == on_ranks and name in assigned_names(cell.source):
            opened = re.search(rf"\b{name}\s*=\s*open\(|open\(.*\bas {name}\b", cell.source)
            return f"{'an open file, ' if opened else ''}made by cell {cell.number}"
    return "made by no cell"


def notebook_of(cells: Sequence[Cell], size: int | None, wire: str | None) -> NotebookNode:
    """Return a notebook that starts a group, runs `cells` and ends the group."""
    up = " ".join(
        ["%eai up", *([f"-n {size}"] if size else []), *([f"--wire {wire}"] if wire else [])]
    )
    first = v4.new_code_cell(f"%load_ext eai_notebook\n{up}")
    taken = [
        v4.new_code_cell(cell.source, metadata={NUMBER: cell.number} if cell.number else {})
        for cell in cells
    ]
    return v4.new_notebook(cells=[first, *taken, v4.new_code_cell("%eai down")])
