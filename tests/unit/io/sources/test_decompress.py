"""Compressed logs: the same rows, shared out as wholes; damage is reported with its file and byte."""

from __future__ import annotations

import bz2
import gzip
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from click_log_files import write_log
from expected_errors import raises_code

from eai_notebook.io.pipeline.byte_ranges import cut_all, read, spans_of
from eai_notebook.io.sources.decompress import decompress
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Callable

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": lambda text: bytes(pa.compress(text, "zstd", asbytes=True)),
    ".bz2": bz2.compress,
}


def pack(path: Path, suffix: str) -> Path:
    """Replace a file by a compressed one, in two members where that is possible."""
    text = path.read_bytes()
    half = len(text) // 2
    parts = [text] if suffix == ".zst" else [text[:half], text[half:]]
    packed = path.with_name(path.name + suffix)
    packed.write_bytes(b"".join(PACK[suffix](part) for part in parts))
    path.unlink()
    return packed


@pytest.mark.parametrize("suffix", list(PACK))
def test_ranks_read_every_row_of_packed_files_once(tmp_path: Path, suffix: str) -> None:
    rows: list[str] = []
    for number, count in enumerate([60, 20, 20]):
        rows += write_log(tmp_path / f"{number}.tsv", range(100 * number, 100 * number + count))
        pack(tmp_path / f"{number}.tsv", suffix)
    rows += write_log(tmp_path / "plain.tsv", range(1000, 1040))
    seen: Counter[bytes] = Counter()
    for rank in range(2):
        for piece in cut_all(spans_of(find_files(tmp_path), rank, 2), 1000):
            text = bytes(read(piece.file, piece.begin, piece.end)[: piece.end - piece.begin])
            assert len(text.splitlines()) == piece.lines
            seen.update(text.splitlines())
    assert seen == Counter(row.encode() for row in rows)


@pytest.mark.parametrize("suffix", list(PACK))
def test_a_cut_off_file_is_named_with_its_place(tmp_path: Path, suffix: str) -> None:
    write_log(tmp_path / "a.tsv", range(2000))
    packed = pack(tmp_path / "a.tsv", suffix)
    size = packed.stat().st_size
    os.truncate(packed, size - 100)
    with raises_code("compressed-file-damaged", packed, f"{size - 100:,}"):
        spans_of(find_files(packed), 0, 1)


def test_damage_inside_is_an_error(tmp_path: Path) -> None:
    write_log(tmp_path / "a.tsv", range(500))
    packed = pack(tmp_path / "a.tsv", ".gz")
    text = bytearray(packed.read_bytes())
    text[len(text) // 3] ^= 0xFF
    packed.write_bytes(text)
    with raises_code("compressed-file-damaged", packed):
        spans_of(find_files(packed), 0, 1)


def test_too_few_packed_files_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "a.tsv", range(10))
    packed = pack(tmp_path / "a.tsv", ".gz")
    with raises_code("too-few-files", "2 ranks"):
        spans_of(find_files(packed), 0, 2)


def test_what_was_unpacked_leaves_nothing_behind(tmp_path: Path) -> None:
    write_log(tmp_path / "a.tsv", range(10))
    packed = pack(tmp_path / "a.tsv", ".gz")
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    spans = spans_of(find_files(packed), 0, 1)
    with spans[0].file.open() as stream:
        assert stream.read(2) in {b"0\t", b"1\t"}
    del spans
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= before


@pytest.mark.parametrize("suffix", list(PACK))
def test_damaged_files_leave_no_memory_behind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.tsv{suffix}"
    path.write_bytes(PACK[suffix](b"1\t2\n" * 100)[:-9])
    (file,) = find_files(path)

    def address_space() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")

    for again in range(60):
        if again == 10:  # what libraries load at first is there
            before = address_space()
        with raises_code("compressed-file-damaged"):
            decompress(file)
    assert address_space() - before < 150 << 20  # where blocks were lost, it was 200 and more
