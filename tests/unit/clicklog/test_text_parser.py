from __future__ import annotations

import numpy as np
import pytest
from click_log_files import expected, row

from eai_notebook.clicklog.bucket_hashing import hash_ids
from eai_notebook.clicklog.click_schema import CRITEO
from eai_notebook.clicklog.row_errors import row_fault
from eai_notebook.clicklog.text_parser import Parsed, parse
from eai_notebook.compiled.swar import PADDING


def parsed(text: str) -> Parsed:
    raw = text.encode()
    padded = np.frombuffer(raw + bytes(PADDING), np.uint8).copy()
    return parse(padded, len(raw), CRITEO, text.count("\n"))


def test_compiled_parser_reads_what_the_slow_one_reads() -> None:
    lines = [row(number) for number in range(300)]
    rows = parsed("\n".join(lines) + "\n").rows
    labels, numbers, ids = zip(*(expected(line) for line in lines), strict=True)
    assert rows.labels.shape == (300, 1)
    assert rows.labels[:, 0].tolist() == list(labels)
    np.testing.assert_allclose(rows.numbers, np.array(numbers), rtol=1e-6)
    assert rows.ids.tolist() == list(ids)


def test_windows_line_ends_are_line_ends() -> None:
    lines = [row(1), row(2)[: row(2).rindex("\t") + 1]]  # the second: last value missing
    unix = parsed("\n".join(lines) + "\n")
    windows = parsed("\r\n".join(lines) + "\r\n")
    assert not windows.bad
    assert unix.rows.ids[1, 25] == 0
    assert windows.rows.ids.tolist() == unix.rows.ids.tolist()


def test_upper_case_hexadecimal_is_the_same_value() -> None:
    line = row(5)
    assert parsed(line.upper() + "\n").rows.ids.tolist() == parsed(line + "\n").rows.ids.tolist()


def test_hash_is_even_and_differs_by_column() -> None:
    values = np.arange(100_000, dtype=np.uint32)
    first, second = hash_ids(values, 0, 101), hash_ids(values, 1, 101)
    counts = np.bincount(first, minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 850
    assert counts[1:].max() < 1150
    assert np.mean(first == second) < 0.02


FIELDS = row(3).split("\t")


def changed(place: int, value: str) -> str:
    return "\t".join([*FIELDS[:place], value, *FIELDS[place + 1 :]])


BAD = [
    ("\t".join(FIELDS[:39]), "has 39 fields, Criteo rows have 40"),
    ("\t".join([*FIELDS, "0a0b0c0d"]), "has 41 fields, Criteo rows have 40"),
    ("", "has 1 fields, Criteo rows have 40"),
    (changed(0, "2"), "has label '2', which is neither 0 nor 1"),
    (changed(0, ""), "has label '', which is neither 0 nor 1"),
    (changed(0, "10"), "has label '10', which is neither 0 nor 1"),
    (changed(2, "1.5"), "has '1.5' in I2, which is not an integer"),
    (changed(13, "-"), "has '-' in I13, which is not an integer"),
    (changed(4, "9" * 19), f"has '{'9' * 19}' in I4, which is not an integer of 64 bits"),
    (changed(4, "1" * 20), f"has '{'1' * 20}' in I4, which is not an integer of 64 bits"),
    (changed(14, "0a1b2c3"), "has '0a1b2c3' in C1, which is not eight hexadecimal digits"),
    (changed(39, "0a1b2c3x"), "has '0a1b2c3x' in C26, which is not eight hexadecimal digits"),
    (changed(20, "é" * 4), "has 'éééé' in C7, which is not eight hexadecimal digits"),
    (changed(30, "0" * 40), f"has '{'0' * 24}...' in C17, which is not eight hexadecimal digits"),
]


@pytest.mark.parametrize(("line", "fault"), BAD)
def test_bad_row_is_found_explained_and_left_out(line: str, fault: str) -> None:
    assert row_fault(line, CRITEO) == fault
    text = f"{row(1)}\n{line}\n{row(2)}\n"
    result = parsed(text)
    assert result.bad == (len(row(1)) + 1,)
    assert result.rows.ids.tolist() == [expected(row(1))[2], expected(row(2))[2]]


def test_good_row_has_no_fault_that_the_explanation_would_find() -> None:
    assert row_fault(row(1), CRITEO) == "cannot be read"
