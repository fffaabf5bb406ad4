"""Each fault once, on groups of two and four; `benchmarks/drills.py` repeats and times them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from drills.catalog import DRILLS, Drill
from drills.runner import DrillRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ranks, pytest.mark.drill]


@pytest.fixture(scope="module", params=[2, 4], ids="{} ranks".format)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DrillRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAI_RUNS", str(tmp_path_factory.mktemp("drills") / "runs"))
        with DrillRunner(request.param) as runner:
            yield runner


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_fault_ends_as_promised(runner: DrillRunner, drill: Drill) -> None:
    result = runner.run(drill)
    assert result.came == drill.comes, result.said
    assert drill.says in result.said
    assert result.usable
    assert result.kept
    assert result.left == 0
    assert result.writes < 2500


def test_fifty_failing_cells_leave_nothing_behind(runner: DrillRunner) -> None:
    held = runner.failing_cells(50)
    for before, after in zip(held["before"], held["after"], strict=True):
        assert after.threads <= before.threads
        assert after.files <= before.files + 2
        assert after.memory < before.memory + 30e6
