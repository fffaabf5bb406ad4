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


def changed(index: int, value: str) -> str:
    return "\t".join([*FIELDS[:index], value, *FIELDS[index + 1 :]])


BAD = [
    ("\t".join(FIELDS[:39]), ["39", "40"]),
    ("\t".join([*FIELDS, "0a0b0c0d"]), ["41", "40"]),
    ("", ["1", "40"]),
    (changed(0, "2"), ["label '2'"]),
    (changed(0, ""), ["label ''"]),
    (changed(0, "10"), ["label '10'"]),
    (changed(2, "1.5"), ["'1.5'", "I2"]),
    (changed(13, "-"), ["'-'", "I13"]),
    (changed(4, "9" * 19), [f"'{'9' * 19}'", "I4", "64"]),
    (changed(4, "1" * 20), [f"'{'1' * 20}'", "I4", "64"]),
    (changed(14, "0a1b2c3"), ["'0a1b2c3'", "C1", "hexadecimal"]),
    (changed(39, "0a1b2c3x"), ["'0a1b2c3x'", "C26", "hexadecimal"]),
    (changed(20, "é" * 4), ["'éééé'", "C7"]),
    (changed(30, "0" * 40), [f"'{'0' * 24}...'", "C17"]),
]


@pytest.mark.parametrize(("line", "facts"), BAD)
def test_bad_row_is_found_explained_and_left_out(line: str, facts: list[str]) -> None:
    fault = row_fault(line, CRITEO)
    assert [fact for fact in facts if fact not in fault] == [], fault
    text = f"{row(1)}\n{line}\n{row(2)}\n"
    result = parsed(text)
    assert result.bad == (len(row(1)) + 1,)
    assert result.rows.ids.tolist() == [expected(row(1))[2], expected(row(2))[2]]


def test_a_good_row_has_no_fault() -> None:
    assert row_fault(row(1), CRITEO) == "cannot be read"
