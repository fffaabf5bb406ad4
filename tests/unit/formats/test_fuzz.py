"""Damaged files of every format are refused with an `EaiError` or read as the library reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fuzzing
import pytest

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {"parquet": 600, "arrow": 400, "tfrecord": 400}


@pytest.mark.parametrize("kind", fuzzing.FORMATS, ids=lambda kind: kind.name)
def test_no_mutation_crashes_hangs_or_differs(kind: fuzzing.Format, tmp_path: Path) -> None:
    count = COUNTS.get(kind.name, 250)
    found = fuzzing.run([kind], seed=2, count=count, folder=tmp_path)
    assert (found.crashes, found.hangs, found.differences) == ([], [], [])
    assert found.counts["mutations"] == count
    assert found.counts["refused"] > count // 20


def test_a_crash_a_wrong_error_and_wrong_values_are_found(tmp_path: Path) -> None:
    def ours(path: str) -> fuzzing.Values:
        text = path.rpartition("-")[2]
        if text == "3.x":
            import ctypes

            ctypes.string_at(0)
        if text == "5.x":
            raise KeyError(path)
        return {"value": 1}

    kind = fuzzing.Format(
        "odd",
        ".x",
        [b"abc"],
        lambda _drawn, base: base,
        ours,
        lambda path: {"value": 2 if path.endswith("-7.x") else 1},
    )
    found = fuzzing.run([kind], seed=0, count=10, folder=tmp_path)
    assert sorted(found.crashes) == ["odd-0-3 (signal 11)", "odd-0-5 (no EaiError)"]
    assert found.differences == ["odd-0-7 (other values)"]
    assert found.counts["read"] == 7
