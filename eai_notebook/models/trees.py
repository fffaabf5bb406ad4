"""Gradient-boosted trees by LightGBM: a baseline, and features for a logistic regression.

LightGBM and scikit-learn come with ``pip install 'eai_notebook[baselines]'``; they train in one
process, on rows in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

_FOLD = 64  # categories that a split distinguishes; the others count as one


class BoostedTrees:
    """Gradient-boosted trees on the columns of a click log: the baseline to beat.

    Trees need no scaling and find non-linear effects and interactions of numbers. They are weak at
    categories with many values: only a column's most frequent `categories` are distinguished.

    Args:
        trees: Number of trees.
        leaves: Leaves of each tree.
        learning_rate: Factor on each tree's output.
        categories: Values of a column that are distinguished.
        seed: Seed for the order of ties.

    Raises:
        EaiError: LightGBM is not installed.
    """

    def __init__(
        self,
        *,
        trees: int = 100,
        leaves: int = 31,
        learning_rate: float = 0.1,
        categories: int = _FOLD,
        seed: int = 0,
    ) -> None:
        self._categories = categories
        self._kept: list[NDArray[np.int32]] = []
        self._trees = _lightgbm().LGBMClassifier(
            n_estimators=trees,
            num_leaves=leaves,
            learning_rate=learning_rate,
            random_state=seed,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )

    def fit(self, features: Mapping[str, ArrayLike], labels: ArrayLike) -> BoostedTrees:
        """Train on ``{"numbers": [rows, integers], "ids": [rows, categoricals]}`` and 0 or 1."""
        ids = np.asarray(features["ids"], np.int32)
        self._kept = [_frequent(column, self._categories) for column in ids.T]
        table = self._table(features)
        first = table.shape[1] - ids.shape[1]
        self._trees.fit(
            table,
            np.asarray(labels).ravel(),
            categorical_feature=list(range(first, table.shape[1])),
        )
        return self

    def predict(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Return each row's chance of a click, float64 ``[rows]``."""
        chances: NDArray[np.float64] = self._trees.predict_proba(self._table(features))[:, 1]
        return chances

    def leaves(self, features: Mapping[str, ArrayLike]) -> NDArray[np.int32]:
        """Return the leaf that each row ends in, int32 ``[rows, trees]``, counted from 0."""
        found = self._trees.predict(self._table(features), pred_leaf=True)
        leaves: NDArray[np.int32] = np.asarray(found, np.int32).reshape(len(found), -1)
        return leaves

    def _table(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Return one table, with each column's frequent values numbered from 1, others as 0."""
        if not self._kept:
            raise EaiError("the trees are not trained", "call fit first", code="model-not-trained")
        ids = np.asarray(features["ids"], np.int32)
        numbered = np.empty(ids.shape, np.float64)
        for column, kept in enumerate(self._kept):
            index = np.searchsorted(kept, ids[:, column]).clip(max=len(kept) - 1)
            numbered[:, column] = np.where(kept[index] == ids[:, column], index + 1, 0)
        return np.concatenate([np.asarray(features["numbers"], np.float64), numbered], axis=1)


class LeavesAndLogistic:
    """Boosted trees whose leaves are the features of a logistic regression.

    The leaf of a row in each tree is a category; the linear model combines these with the ids (He et al. 2014, "Practical Lessons from
    Predicting Clicks on Ads at Facebook", section 3).

    Args:
        trees: The trees, untrained; `BoostedTrees()` by default.
        strength: Inverse of the penalty on squared weights.
    """

    def __init__(self, trees: BoostedTrees | None = None, *, strength: float = 0.1) -> None:
        self._trees = trees or BoostedTrees()
        self._encoder = _sklearn("preprocessing").OneHotEncoder(handle_unknown="ignore")
        self._linear = _sklearn("linear_model").LogisticRegression(C=strength, max_iter=200)

    def fit(self, features: Mapping[str, ArrayLike], labels: ArrayLike) -> LeavesAndLogistic:
        """Train the trees, then the linear model; arguments as `BoostedTrees.fit`."""
        self._trees.fit(features, labels)
        hot = self._encoder.fit_transform(self._categories(features))
        self._linear.fit(hot, np.asarray(labels).ravel())
        return self

    def predict(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Return each row's chance of a click, float64 ``[rows]``."""
        hot = self._encoder.transform(self._categories(features))
        chances: NDArray[np.float64] = self._linear.predict_proba(hot)[:, 1]
        return chances

    def _categories(self, features: Mapping[str, ArrayLike]) -> NDArray[np.int32]:
        ids = np.asarray(features["ids"], np.int32)
        return np.concatenate([self._trees.leaves(features), ids], axis=1)


def in_memory(
    batches: Iterable[tuple[Mapping[str, Any], Any]],
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Return the features and labels of batches as whole arrays.

    Examples:
        >>> batch = {"ids": np.ones((2, 3)), "numbers": np.ones((2, 1))}, np.zeros((2, 1))
        >>> features, labels = in_memory([batch, batch])
        >>> features["ids"].shape, labels.shape
        ((4, 3), (4, 1))
    """
    pairs = [({k: np.asarray(v) for k, v in x.items()}, np.asarray(y)) for x, y in batches]
    names = pairs[0][0]
    features = {name: np.concatenate([x[name] for x, _ in pairs]) for name in names}
    return features, np.concatenate([y for _, y in pairs])


def _frequent(column: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """Return the `most` most frequent values of a column, rising."""
    values, counts = np.unique(column, return_counts=True)
    kept: NDArray[np.int32] = np.sort(values[np.argsort(-counts, kind="stable")[:most]])
    return kept


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise _missing("lightgbm", error) from error
    return lightgbm


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise _missing("scikit-learn", error) from error


def _missing(package: str, error: ImportError) -> EaiError:
    return EaiError(
        f"{package} cannot be imported ({error})",
        "install it with `pip install 'eai_notebook[baselines]'`",
        code="package-missing",
    )
