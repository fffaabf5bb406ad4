"""Click logs for tests, and a second, slow and plain, reading of them to compare with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.clicklog.bucket_hashing import hash_ids
from eai_notebook.clicklog.click_schema import CRITEO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def row(number: int) -> str:
    """Return a row that no other number gives, with something missing here and there."""
    rng = np.random.default_rng(number)
    integers = [str(value) for value in rng.integers(-3, 100_000, 13)]
    integers[0] = str(number)
    integers[12] = str(rng.integers(-3, 4))
    names = [f"{value:08x}" for value in rng.integers(0, 2**32, 26)]
    for place in rng.integers(1, 12, 2):
        integers[place] = ""
    for place in rng.integers(0, 25, 4):  # a missing last value looks cut off in a last line
        names[place] = ""
    return "\t".join([str(number % 2), *integers, *names])


def write_log(path: Path, numbers: Sequence[int], *, end: str = "\n") -> list[str]:
    """Write one row for each number and return the rows."""
    rows = [row(number) for number in numbers]
    path.write_text("\n".join(rows) + (end if rows else ""))
    return rows


def expected(line: str) -> tuple[float, list[float], list[int]]:
    """Read a row the slow and obvious way."""
    label, *fields = line.split("\t")
    numbers = [
        math.copysign(math.log1p(abs(int(text))), int(text)) if text else CRITEO.missing_integer
        for text in fields[:13]
    ]
    ids = [
        int(hash_ids(np.array([int(text, 16)], np.uint32), column, CRITEO.buckets[column])[0])
        if text
        else 0
        for column, text in enumerate(fields[13:])
    ]
    return float(label), numbers, ids


def row_number(first: float) -> int:
    """Return which row it was, from its first transformed integer."""
    return round(math.expm1(first))
