"""Every collective backend keeps the one contract: `tests/ranks/collective_conformance.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from paths import RANKS

RunRanks = Callable[..., list[Any]]

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
PROGRAM = (RANKS / "collective_conformance.py").read_text()
CASES = [
    pytest.param("null", 1, id="null, one process"),
    *(
        pytest.param(name, size, id=f"{name}, {size} ranks")
        for name in ("horovod", "mpi4py")
        for size in (1, 2)
    ),
]


def rows(values: Sequence[float], width: int = 1) -> list[list[float]]:
    return [[value] * width for value in values]


def check_dtype(dtype: str, found: dict[str, Any], rank: int, size: int) -> None:
    total = sum(range(1, size + 1))
    assert found["sum"] == rows([total] * 2, 3), dtype
    assert found["max"] == rows([size] * 2, 3), dtype
    assert found["broadcast"] == rows([size] * 2, 3), dtype
    lengths = [min(2, each + 1) for each in range(size)]
    joined = [each + 1 for each, length in enumerate(lengths) for _ in range(length)]
    assert found["gathered"] == rows(joined, 3), dtype
    assert found["exchanged"] == [[rank + 10 * peer for peer in range(size)], [1] * size], dtype
    if "float" in dtype:
        assert found["mean"] == rows([total / size] * 2, 3), dtype


def check_released(found: dict[str, Any], rank: int, size: int) -> None:
    blocked = "left" if rank == 1 else "exchange-released"
    assert found["released"] == [blocked, blocked]
    assert found["after"] == "exchange-released"
    assert found["again"] == [size**2 * number for number in range(6)]
    assert found["own"] == "exchange-released"
    members = list(range(size))[::-1]
    assert found["reversed"] == [size - 1 - rank, members]
    assert found["reversed sum"] == sum(range(1, size + 1))
    if rank == size - 1:
        assert found["alone"] == [0, 1, True]
        assert found["alone sum"] == list(range(6))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_backend_keeps_the_contract(
    run_ranks: RunRanks, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    monkeypatch.setenv("EAI_COLLECTIVE", name)
    for rank, found in enumerate(run_ranks(PROGRAM, size)):
        assert (found["name"], found["rank"], found["size"]) == (name, rank, size)
        for way in found["dtypes"]:
            for dtype, values in way.items():
                check_dtype(dtype, values, rank, size)
        shape = [3 * sum(range(size)), 2]
        received = [shape[0] if rank == size - 1 else 0, 2]
        lengths = [3 * peer if rank == size - 1 else 0 for peer in range(size)]
        for way in found["ragged"]:
            assert way == [shape, received, lengths, size, []]
        assert found["order"] == [
            [size**2 * (step + number) for number in range(6)] for step in range(5)
        ]
        assert found["branches"] == [0.0, -size, 2.0 * size, 3.0 * size]
        mismatch = {"shape": "exchange-mismatch True", "dtype": "exchange-mismatch True"}
        assert found["mismatch"] == ([mismatch] * 2 if size > 1 else [{}, {}])
        if size > 1:
            check_released(found, rank, size)
