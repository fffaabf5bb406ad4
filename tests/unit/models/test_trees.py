"""The baselines by LightGBM and scikit-learn: they learn; missing packages are reported."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.models import BoostedTrees, LeavesAndLogistic, auc


def clicks(rows: int, seed: int) -> tuple[dict[str, Any], Any]:
    """A bend in a number, and an effect of each of 30 values of a category."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((rows, 2)).astype(np.float32)
    ids = rng.integers(1, 31, (rows, 2)).astype(np.int32)
    effect = np.random.default_rng(9).standard_normal(31)
    logit = 2 * (np.abs(numbers[:, 0]) - 0.8) + effect[ids[:, 0]]
    labels = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return {"numbers": numbers, "ids": ids}, labels[:, None].astype(np.float32)


@pytest.mark.parametrize("kind", ["trees", "leaves"])
def test_they_rank_held_out_rows(kind: str) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("sklearn")
    trees = BoostedTrees(trees=30, leaves=8)
    model = trees if kind == "trees" else LeavesAndLogistic(trees)
    x, y = clicks(3000, 0)
    test, labels = clicks(2000, 1)
    assert auc(labels, model.fit(x, y).predict(test)) > 0.76


def test_leaves_are_numbered_by_tree() -> None:
    pytest.importorskip("lightgbm")
    x, y = clicks(500, 0)
    leaves = BoostedTrees(trees=5, leaves=4).fit(x, y).leaves(x)
    assert leaves.shape == (500, 5)
    assert leaves.max() < 4


def test_values_never_seen_count_as_one() -> None:
    pytest.importorskip("lightgbm")
    x, y = clicks(500, 0)
    trees = BoostedTrees(trees=5, leaves=4).fit(x, y)
    new = {**x, "ids": x["ids"] + 1000}
    newer = {**x, "ids": x["ids"] + 2000}
    np.testing.assert_array_equal(trees.predict(new), trees.predict(newer))


def test_untrained_trees_say_so() -> None:
    pytest.importorskip("lightgbm")
    with pytest.raises(EaiError, match="call fit first"):
        BoostedTrees().predict(clicks(5, 0)[0])


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(EaiError, match=r"lightgbm cannot be imported .*\[baselines\]"):
        BoostedTrees()
