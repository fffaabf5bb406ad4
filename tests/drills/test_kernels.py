"""A notebook that goes away, on a group of two; its kernel's death is in test_session.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from drills import kernels

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ranks, pytest.mark.drill]


CLOSED = [drill for drill in kernels.KERNEL_DRILLS if drill.act in ("shut down", "close")]


@pytest.mark.parametrize("drill", CLOSED, ids=lambda drill: drill.name)
def test_a_group_ends_or_stays_as_promised(
    drill: kernels.KernelDrill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    result = kernels.run(drill, 2)
    assert result.came == drill.comes, result.said
    assert result.usable
    assert result.kept
    assert result.left == 0
