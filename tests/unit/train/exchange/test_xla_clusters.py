"""Models and steps that XLA is to compile train on ranks; only their exchange is not compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paths import RANKS

RunRanks = Callable[..., list[Any]]

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
PROGRAM = (RANKS / "xla_training.py").read_text()
BACKWARD = 3
"""Matrix products of two dense layers' backward pass.

Those of the forward pass TensorFlow joins with the bias on CPUs before XLA sees them, unless XLA
compiles the whole step, which it does on one rank.
"""


WAYS = ("by_fit", "by_callbacks", "by_keras", "by_loop", "by_gradients")
ALL = WAYS, (False, True, "auto")


@pytest.mark.parametrize(
    ("size", "ways", "settings"),
    [
        (2, ("by_fit", "by_gradients"), (False, True)),
        pytest.param(1, *ALL, marks=pytest.mark.drill),
        pytest.param(2, *ALL, marks=pytest.mark.drill),
    ],
    ids=["2-some", "1-all", "2-all"],
)
def test_every_way_to_train_trains_alike_whatever_xla_compiles(
    run_ranks: RunRanks, size: int, ways: tuple[str, ...], settings: tuple[Any, ...]
) -> None:
    reports = run_ranks(f"WAYS, SETTINGS = {ways!r}, {settings!r}\n{PROGRAM}", size)
    first = reports[0]["found"]
    assert len(first) == len(ways) * len(settings)
    for report in reports:
        for way, compiled in report["found"].items():
            kind, _, setting = way.partition(" ")
            plain = first[f"{kind} False"]
            for ours, theirs in zip(compiled["weights"], plain["weights"], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6, err_msg=way)
            if setting == "False":
                assert compiled["products"] == 0, way
            else:
                assert compiled["products"] >= BACKWARD, way
        assert report["sparse"] == pytest.approx(reports[0]["sparse"], rel=1e-6)
        for other in reports[1:]:
            for way, compiled in other["found"].items():
                assert compiled["weights"] == first[way]["weights"], way
