from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clicklog import write_log

from eai_notebook.errors import EaiError
from eai_notebook.io.ranges import cut, find_files, read, share

if TYPE_CHECKING:
    from pathlib import Path


def lines_of(path: Path, begin: int, end: int) -> list[bytes]:
    with path.open("rb") as file:
        return bytes(read(file, begin, end)[: end - begin]).splitlines()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("chunk", [50, 1000, 1 << 20])
def test_ranks_read_every_row_exactly_once(tmp_path: Path, size: int, chunk: int) -> None:
    rows: list[str] = []
    for number, count in enumerate([40, 0, 3, 17]):  # uneven, and one file empty
        start = 1000 * number
        rows += write_log(tmp_path / f"{number}.tsv", range(start, start + count))
    files = find_files(tmp_path)
    seen: Counter[bytes] = Counter()
    for rank in range(size):
        for span in share(files, rank, size):
            for piece in cut(span, chunk):
                lines = lines_of(piece.path, piece.begin, piece.end)
                assert len(lines) == piece.lines
                seen.update(lines)
    assert seen == Counter(row.encode() for row in rows)


def test_shares_are_even_whatever_the_files(tmp_path: Path) -> None:
    write_log(tmp_path / "big.tsv", range(900))
    write_log(tmp_path / "small.tsv", range(900, 1000))
    files = find_files(tmp_path)
    counts = [
        sum(piece.lines for span in share(files, rank, 4) for piece in cut(span))
        for rank in range(4)
    ]
    assert sum(counts) == 1000
    assert max(counts) - min(counts) < 10


def test_last_line_without_newline_is_a_row(tmp_path: Path) -> None:
    write_log(tmp_path / "a.tsv", range(5), end="")
    assert sum(piece.lines for piece in cut(share([tmp_path / "a.tsv"], 0, 1)[0], 400)) == 5


def test_files_are_found_by_glob_folder_file_and_list(tmp_path: Path) -> None:
    names = ["b.tsv", "a.tsv", "notes.md", ".hidden.tsv"]
    for name in names:
        (tmp_path / name).write_text("x\n")
    both = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    assert find_files(tmp_path) == both
    assert find_files(str(tmp_path / "*.tsv")) == both
    assert find_files(tmp_path / "b.tsv") == both[1:]
    assert find_files(reversed(both)) == both[::-1]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("none/train-*.tsv", "no file matches none/train-*.tsv"),
        ("none", "there is no file or folder none"),
        ("empty", "folder empty holds no .csv, .tsv, .txt file"),
        (["gone.tsv"], "there is no file gone.tsv"),
        ([], "the list of input files is empty"),
        ("packed.tsv.gz", "packed.tsv.gz is compressed"),
    ],
)
def test_what_cannot_be_found_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str | list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "packed.tsv.gz").write_bytes(b"")
    with pytest.raises(EaiError) as caught:
        find_files(pattern)
    assert str(caught.value).startswith(words)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_file_that_shrinks_is_an_error_not_a_short_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    write_log(path, range(50))
    piece = cut(share([path], 0, 1)[0])[0]
    os.truncate(path, 100)
    with path.open("rb") as file, pytest.raises(EaiError, match="became shorter"):
        read(file, piece.begin, piece.end)


def test_read_pads_for_the_parser(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("abc")
    with path.open("rb") as file:
        text = read(file, 0, 3)
    assert bytes(text[:3]) == b"abc"
    assert np.all(text[3:] == ord("\n"))
