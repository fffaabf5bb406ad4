from __future__ import annotations

import re
import struct
import zlib
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.display.heat_map import png
from eai_notebook.display.static_html import HEIGHT, STEPS_WIDTH, html
from eai_notebook.display.training_html import FEWEST_POINTS
from eai_notebook.ledger.parts import BY_NAME, PARTS, TABLE
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from pathlib import Path


class Balance(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, _tag: str, _attrs: Any) -> None:
        """A tag that closes itself leaves nothing open."""


def twin(folder: Path, rows: dict[int, np.ndarray], name: str = "fit") -> str:
    made = html(record_view(run_record(folder, rows, name)))
    parser = Balance()
    parser.feed(made)
    assert parser.open == []
    return made


def drawn(made: str) -> str:
    """Return the drawings of a twin as the SVG that they are."""
    pictures = re.findall(r'src="data:image/svg\+xml,([^"]*)"', made)
    return unquote(" ".join(pictures)).replace("'", '"')


def test_parts_differ_in_colour_letter_and_texture() -> None:
    for signs in zip(*((part.colour, part.letter) for part in TABLE), strict=True):
        assert len(set(signs)) == len(PARTS)
    assert len({part.texture for part in TABLE}) == len(PARTS) - 1  # two have none


@pytest.mark.parametrize(("ranks", "steps"), [(1, 3), (2, 30), (16, 50), (17, 50), (64, 500)])
def test_the_twin_is_whole_and_needs_no_script(tmp_path: Path, ranks: int, steps: int) -> None:
    made = twin(tmp_path, run_rows(ranks, steps))
    assert made.count("image/svg+xml") == 1 + ranks + (steps >= FEWEST_POINTS)  # the throughput
    # What JupyterLab's sanitizer takes out of an untrusted notebook.
    assert not re.search(r"<svg|calc\(|inset:", made)
    assert "<script" not in made
    assert len(made) < 120_000
    pictures = re.findall(r'src="([^"]*)"', made)
    others = [picture[:22] for picture in pictures if "svg" not in picture[:22]]
    assert others == ["data:image/png;base64,"] * (ranks > 1)
    assert "nan" not in re.sub(r'src="[^"]*"', "", made).lower()


def test_the_heat_map_is_a_picture_of_its_cells() -> None:
    picture = png(3, 2, bytes([0, 1, 128, 255, 0, 7]))
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (3, 2)
    place, chunks = 8, {}
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        kind, data = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        assert struct.unpack(">I", picture[place + 8 + length : place + 12 + length])[
            0
        ] == zlib.crc32(kind + data)
        chunks[kind] = data
        place += 12 + length
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 1, 128, 0, 255, 0, 7])
    assert len(chunks[b"PLTE"]) == 3 * 256
    lightness = [sum(chunks[b"PLTE"][3 * value : 3 * value + 3]) for value in range(1, 256)]
    assert lightness == sorted(lightness)


def test_bars_lie_on_top_of_each_other_and_inside_the_axis(tmp_path: Path) -> None:
    made = twin(tmp_path, run_rows(2, 60, compile_step=False, jitter=0.0))
    tops = {}
    for colour, path in re.findall(r'<path fill="(#\w+)" d="([^"]+)"', drawn(made)):
        first = re.match(r"M0 (\d+)v-(\d+)h", path)
        assert first
        tops[colour] = (int(first[1]), int(first[1]) - int(first[2]))
    floor = HEIGHT
    for part in ("input", "compute", "transfer", "update", "other"):
        low, high = tops[BY_NAME[part].colour]
        assert low == floor
        assert 0 <= high < low
        floor = high
    assert floor == 0


def test_a_step_longer_than_the_axis_is_cut_and_reported(tmp_path: Path) -> None:
    made = twin(tmp_path, run_rows(2, 60))
    assert "1 bar cut at the top; longest: step 0, 2.5 s" in made
    for low, tall in re.findall(r"M\d+ (\d+)v-(\d+)h", drawn(made)):
        assert 0 <= int(low) - int(tall) < int(low) <= HEIGHT
    assert "cut at the top" not in twin(tmp_path, run_rows(2, 60, compile_step=False))


def test_the_axis_has_the_true_step_numbers_of_a_run_measured_now_and_then(tmp_path: Path) -> None:
    rows = run_rows(2, 6188)
    for own in rows.values():
        skipped = (np.arange(6188) % 16 != 0) & (np.arange(6188) >= 50)
        for name in ("input", "compute", "ready", "reduced", "update"):
            own[name][skipped] = np.nan
    view = record_view(run_record(tmp_path, rows))
    buckets = view["buckets"]
    assert (buckets["step"][0], buckets["stop"][-1]) == (0, 6188)
    assert buckets["step"][1:] == buckets["stop"][:-1]
    made = html(view)
    labels = dict(re.findall(r'left: ([\d.]+)%; [^"]*">(?:step )?([\d,]+)</span>', made))
    assert list(labels.values()) == ["0", "2,000", "4,000", "6,000"]
    assert [float(at) for at in labels] == pytest.approx([0, 32.32, 64.64, 96.96], abs=0.01)
    # The half of the steps lies in the middle of the drawing.
    middle = buckets["step"].index(next(s for s in buckets["step"] if s >= 3094))
    edges = re.search(r'<path fill="#009E73" d="([^"]+)"', drawn(made))
    assert edges
    lefts = [int(left) for left in re.findall(r"M(\d+) ", edges[1])]
    assert lefts[middle] == pytest.approx(STEPS_WIDTH / 2, rel=0.01)


def test_what_was_not_measured_looks_like_no_part(tmp_path: Path) -> None:
    made = twin(tmp_path, run_rows(2, 30))
    outline = re.search(r'<path fill="#808080"[^>]* d="(M0 [^"]+)"', drawn(made))
    assert outline
    other = re.search(rf'<path fill="{BY_NAME["other"].colour}" d="([^"]+)"', drawn(made))
    assert other
    assert not other[1].startswith("M0 ")
    assert made.count("</span>not measured</span>") == 1  # in the legend
    assert "#808080" not in twin(tmp_path, run_rows(2, 30, compile_step=False))


def test_what_a_person_named_is_escaped(tmp_path: Path) -> None:
    made = twin(tmp_path, run_rows(1, 20), name='<img src=x onerror="alert(1)">')
    assert "<img src" not in made
    assert "&lt;img" in made


def test_a_run_without_rows_says_so(tmp_path: Path) -> None:
    rows = {rank: own[:0] for rank, own in run_rows(2, 1).items()}
    made = twin(tmp_path, rows)
    assert "no verdict: 0 measured steps" in made
    assert "<img" not in made
