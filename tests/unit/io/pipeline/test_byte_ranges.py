from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click_log_files import write_log
from expected_errors import raises_code

from eai_notebook.io.pipeline.byte_ranges import Chunk, cut, read, share
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from pathlib import Path


def lines_of(piece: Chunk) -> list[bytes]:
    return bytes(read(piece.file, piece.begin, piece.end)[: piece.end - piece.begin]).splitlines()


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
                lines = lines_of(piece)
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
    assert (
        sum(piece.lines for piece in cut(share(find_files(tmp_path / "a.tsv"), 0, 1)[0], 400)) == 5
    )


def test_file_that_shrinks_is_an_error_not_a_short_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    write_log(path, range(50))
    piece = cut(share(find_files(path), 0, 1)[0])[0]
    os.truncate(path, 100)
    with raises_code("file-changed", path):
        read(piece.file, piece.begin, piece.end)


def test_read_pads_for_the_parser(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("abc")
    text = read(find_files(path)[0], 0, 3)
    assert bytes(text[:3]) == b"abc"
    assert np.all(text[3:] == ord("\n"))
