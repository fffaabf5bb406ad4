from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.session import output_folding as output_module
from eai_notebook.session.output_folding import RankOutput

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


def test_bars_of_several_ranks_end_as_one_line_of_their_stream(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    for rank in range(2):
        output.feed(rank, "stderr", f"\r 50%|##  | 5/10 [00:0{rank}<00:00, 9.{rank}it/s]")
    output.flush()
    for rank in range(2):
        output.feed(rank, "stderr", f"\r100%|####| 10/10 [00:0{rank}<00:00, 9.{rank}it/s]\n")
    output.feed(0, "stdout", "step [1]\n")
    output.feed(1, "stdout", "step [2]\n")  # no bar, though it ends like one
    output.close()
    shown = page.text("stderr").rpartition("\r")[2]
    assert shown == "[0-1] 100%|####| 10/10 [00:00<00:00, 9.0it/s]\n"
    assert sorted(page.text("stdout").splitlines()) == ["[0] step [1]", "[1] step [2]"]


def test_a_line_above_a_progress_bar_does_not_mix_with_it(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    output.feed(0, "stdout", "\r1/3")
    output.flush()
    output.feed(1, "stdout", "hello\n")
    output.flush(everything=True)
    assert page.text() == "\r[0] 1/3\r       \r[1] hello\n\r[0] 1/3"


def test_a_flood_is_in_a_file_that_the_output_names(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path, lines_shown=3)
    output.feed(0, "stdout", "".join(f"{number}\n" for number in range(10)))
    path = output.close()
    lines = page.text().splitlines()
    assert lines[:3] == ["[0] 0", "[0] 1", "[0] 2"]
    assert all(line.startswith("...") for line in lines[3:])
    assert path == str(tmp_path / "rest.log")
    assert page.text().count("rest.log") == 1
    assert path in page.text()
    assert page.text("stderr") == ""
    kept = (tmp_path / "rest.log").read_text().splitlines()
    assert kept == [f"[0] {number}" for number in range(10)]


def test_a_flood_of_one_rank_leaves_room_for_the_others(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path, lines_shown=80)
    for rank in range(2):
        output.feed(rank, "stdout", "".join(f"{rank} {number}\n" for number in range(500)))
    output.close()
    lines = page.text().splitlines()
    assert "[1] 1 0" in lines
    assert len(lines) < 100


def test_a_long_line_is_cut_between_words_and_whole_in_the_file(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    line = "word " * 10_000
    output.feed(0, "stdout", f"{line}\nnext\n")
    path = output.close()
    first, *_, last = page.text().splitlines()
    assert len(first) < 5_000
    assert set(first.partition(" ...")[0].split()) == {"[0]", "word"}
    assert last == "[0] next"
    assert path is not None
    assert (tmp_path / "rest.log").read_text() == f"[0] {line}\n[0] next\n"


def test_text_without_a_line_end_takes_time_by_its_length(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path)
    for _ in range(200_000):  # each piece used to copy all before it
        output.feed(0, "stdout", "x" * 40)
        output.flush()
    output.close()
    assert len(page.text()) < 10_000
    assert len((tmp_path / "rest.log").read_text()) == len("[0] \n") + 8_000_000


def test_single_surrogates_are_written_out(page: Page, tmp_path: Path) -> None:
    output = make(page, tmp_path, lines_shown=0)
    output.feed(0, "stdout", "caf\udce9 \u00e9\n")
    output.close()
    assert (tmp_path / "rest.log").read_text("utf-8") == "[0] caf\\udce9 \u00e9\n"


def test_a_file_that_cannot_be_written_ends_nothing(page: Page, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = RankOutput([0], page, tmp_path / "file" / "rest.log", lines_shown=1)
    output.feed(0, "stdout", "one\ntwo\n")
    output.close()
    assert "cannot be written" in page.text()


def test_a_lone_rank_needs_no_prefix(page: Page, tmp_path: Path) -> None:
    output = RankOutput([0], page, tmp_path / "rest.log", prefixed=False)
    output.feed(0, "stdout", "plain\n")
    output.close()
    assert page.text() == "plain\n"


def test_a_line_in_many_pieces_is_one_line(tmp_path: Path) -> None:
    written: list[str] = []
    out = RankOutput([0], lambda _stream, text: written.append(text), tmp_path / "log")
    for piece in ["a", "b"] * 256:
        out.feed(0, "stdout", piece)
    out.feed(0, "stdout", "\nend")
    out.close()
    assert "".join(written) == "[0] " + "ab" * 256 + "\n[0] end\n"
