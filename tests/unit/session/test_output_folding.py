from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.session import output_folding as output_module
from eai_notebook.session.output_folding import LONGEST_LINE, PIECES, RankOutput

if TYPE_CHECKING:
    from pathlib import Path


class Page:
    """What a reader sees, streams apart."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str]] = []

    def __call__(self, stream: str, text: str) -> None:
        self.writes.append((stream, text))

    def text(self, stream: str = "stdout") -> str:
        return "".join(text for name, text in self.writes if name == stream)


@pytest.fixture
def page() -> Page:
    return Page()


def make(page: Page, folder: Path, ranks: int = 2, lines_shown: int = 100) -> RankOutput:
    return RankOutput(range(ranks), page, folder / "rest.log", lines_shown=lines_shown)


def test_equal_lines_are_shown_once_with_their_ranks(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path, ranks=4)
    for rank in range(4):
        output.feed(rank, "stdout", "same\n")
    output.flush()
    assert page.text() == "[0-3] same\n"


def test_a_line_of_some_ranks_waits_for_the_others(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "early\n")
    output.flush()
    assert page.text() == ""
    output.feed(1, "stdout", "early\n")
    output.flush()
    assert page.text() == "[0-1] early\n"


def test_a_line_does_not_wait_for_ever(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "FOLD_WINDOW_S", 0.0)
    output = make(page, tmp_path)
    output.feed(0, "stdout", "alone\n")
    output.flush()
    assert page.text() == "[0] alone\n"


def test_each_ranks_lines_keep_their_order(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "zero\nboth\n")
    output.feed(1, "stdout", "one\nboth\n")
    output.close()
    lines = page.text().splitlines()
    assert sorted(lines[:2]) == ["[0] zero", "[1] one"]
    assert lines[2:] == ["[0-1] both"]


def test_lines_said_twice_are_shown_twice(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    for rank in range(2):
        output.feed(rank, "stdout", "again\nagain\n")
    output.close()
    assert page.text() == "[0-1] again\n[0-1] again\n"


def test_the_streams_are_kept_apart(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "out\n")
    output.feed(0, "stderr", "err\n")
    output.close()
    assert page.text("stdout") == "[0] out\n"
    assert page.text("stderr") == "[0] err\n"


def test_a_line_cut_in_pieces_is_one_line(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "half ")
    output.feed(0, "stdout", "and half\nunfinished")
    output.close()
    assert page.text() == "[0] half and half\n[0] unfinished\n"


def test_a_progress_bar_is_rewritten_in_place(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "\r1/3")
    output.flush()
    output.feed(0, "stdout", "\r2/3")
    output.flush()
    assert page.text() == "\r[0] 1/3\r[0] 2/3"
    output.feed(0, "stdout", "\r3/3\n")
    output.close()
    assert page.text().endswith("[0] 3/3\n")
    assert page.text().count("\n") == 1


def test_a_line_above_a_progress_bar_does_not_mix_with_it(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "\r1/3")
    output.flush()
    output.feed(1, "stdout", "hello\n")
    output.flush(everything=True)
    assert page.text() == "\r[0] 1/3\r       \r[1] hello\n\r[0] 1/3"


def test_a_flood_goes_to_a_file_that_the_output_names(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path, lines_shown=3)
    output.feed(0, "stdout", "".join(f"{number}\n" for number in range(10)))
    path = output.close()
    assert page.text().splitlines() == ["[0] 0", "[0] 1", "[0] 2"]
    assert path == str(tmp_path / "rest.log")
    assert path in page.text("stderr")
    rest = (tmp_path / "rest.log").read_text().splitlines()
    assert rest == [f"[0] {number}" for number in range(3, 10)]


def test_a_lone_rank_needs_no_prefix(page: Page, tmp_path: Path) -> None:
    output = RankOutput([0], page, tmp_path / "rest.log", prefixed=False)
    output.feed(0, "stdout", "plain\n")
    output.close()
    assert page.text() == "plain\n"


def test_text_without_line_ends_takes_time_in_proportion(tmp_path: Path) -> None:
    written: list[str] = []
    out = RankOutput([0], lambda _stream, text: written.append(text), tmp_path / "log")
    joined = 0
    for _ in range(20_000):
        out.feed(0, "stdout", "x" * 100)
        joined = max(joined, len(out._pieces[0, "stdout"]))
    out.close()
    assert joined < PIECES
    assert sum(text.count("x") for text in written) == 2_000_000
    longest = max(len(line) for text in written for line in text.splitlines())
    assert longest <= LONGEST_LINE + PIECES * 100 + 100


def test_a_line_in_many_pieces_is_one_line(tmp_path: Path) -> None:
    written: list[str] = []
    out = RankOutput([0], lambda _stream, text: written.append(text), tmp_path / "log")
    for piece in ["a", "b"] * PIECES:
        out.feed(0, "stdout", piece)
    out.feed(0, "stdout", "\nend")
    out.close()
    assert "".join(written) == "[0] " + "ab" * PIECES + "\n[0] end\n"
