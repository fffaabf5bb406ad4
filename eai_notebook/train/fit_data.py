"""Prepare the data of `fit`, `evaluate` and `predict`, so that all ranks take the same steps.

Training data is a rank's own part; all ranks take as many steps as the rank with the fewest
rows. Validation data may also be whole on every rank: then it is shared out here, so that each
row counts once.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import rank_consistency, row_data, same_rows
from eai_notebook.train.data_sharding import PyDatasetPart, say, stretch
from eai_notebook.train.global_metrics import is_additive, leaves, unbuilt
from eai_notebook.train.sharded.sharded_variables import parts

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BATCH = 32
"""Keras's own, for arrays."""


@dataclass(frozen=True)
class Batches:
    """Arrays with their batch size, or anything else that ``model.fit`` takes as ``x``."""

    x: Any
    y: Any = None
    weight: Any = None
    batch_size: int | None = None
    steps: int | None = None

    @classmethod
    def of(cls, data: Any, batch_size: int | None = None, steps: int | None = None) -> Batches:
        """Return what ``(x, y)``, ``(x, y, weight)`` or anything else comes to."""
        if isinstance(data, tuple):
            if len(data) > 3:  # noqa: PLR2004
                raise EaiError(
                    f"{len(data)} arrays were given in one tuple",
                    "give (x, y) or (x, y, sample_weight); several inputs are a list or a dict: "
                    "([a, b], y)",
                    code="data-invalid",
                )
            x, y, weight = (*data, None, None, None)[:3]
            return cls(x, y, weight, batch_size, steps)
        return cls(data, None, None, batch_size, steps)

    @property
    def arrays(self) -> Any:
        """All of it, as one nesting."""
        return self.x if self.y is None and self.weight is None else (self.x, self.y, self.weight)

    @property
    def kind(self) -> row_data.Kind:
        """What kind of data it is."""
        return row_data.kind_of(self.arrays)

    @property
    def count(self) -> int | None:
        """How many batches there are, None if it is unknown or there is no end."""
        if self.kind == "arrays":
            return -(-row_data.rows_in(self.arrays) // (self.batch_size or DEFAULT_BATCH))
        known = getattr(self.x, "steps_per_epoch", None) or getattr(self.x, "num_batches", None)
        if known is not None:
            return int(known)
        if isinstance(self.x, tf.data.Dataset):
            count = int(self.x.cardinality())
            return count if count >= 0 else None
        try:
            return len(self.x)
        except TypeError:
            return None

    def rows(self, begin: int, end: int) -> Batches:
        """Return some rows of arrays."""
        x, y, weight = row_data.take_rows((self.x, self.y, self.weight), begin, end)
        return Batches(x, y, weight, self.batch_size, self.steps)

    def with_x(self, x: Any, steps: int | None = None) -> Batches:
        """Return it with other data that is no array."""
        return Batches(x, None, None, self.batch_size, steps)


def check_counts(counts: Mapping[str, Any]) -> None:
    """Refuse sizes and numbers of steps that are no whole numbers of at least 1.

    Raises:
        EaiError: One is not.

    Examples:
        >>> check_counts({"batch_size": 32, "steps_per_epoch": None})
    """
    for name, value in counts.items():
        if value is None:
            continue
        try:
            good = not isinstance(value, bool) and operator.index(value) >= (name == "batch_size")
        except TypeError:
            good = False
        if not good:
            raise EaiError(
                f"{name} is {value!r}", "give a whole number of at least 1", code="option-invalid"
            )


def compare(train: Batches, validation: Batches | None) -> tuple[bool | None, bool | None]:
    """Return whether all ranks have the same training and validation rows; None if unknown.

    Nothing is read and no generator is consumed. All ranks must call it together.
    """
    both = [train, validation]
    prints = [None if one is None else same_rows.fingerprint(one.arrays) for one in both]
    same = same_rows.compared(prints)
    return same[0], same[1]


def warn_same_rows(same: bool | None) -> None:  # noqa: FBT001 -- the one thing it is about
    """Say that all ranks train on the same rows, and what to do, if they do."""
    size = collective.size()
    if same:
        say(
            f"all {size} ranks got the same rows, and each trains on all of them: share them out "
            "with eai.shard(data)"
        )


def align(train: Batches) -> Batches:
    """Return training data of which every rank takes equally many steps; say what is left out.

    Raises:
        EaiError: The number of steps is unknown, or a rank has no rows.
    """
    if train.kind == "other":
        return train  # Keras says what is wrong with it
    steps = rank_consistency.fewest(train.steps, "steps")
    if steps is not None:
        # (Data that is shorter than the steps ends an epoch early: so it must on all ranks.)
        equal = _equally_long(train)
        return Batches(equal.x, equal.y, equal.weight, equal.batch_size, steps)
    if train.kind == "arrays":
        counts = _counts(row_data.rows_in(train.arrays), "rows")
        fewest = min(counts)
        return train if counts[collective.rank()] == fewest else train.rows(0, fewest)
    counted = train.count
    if rank_consistency.fewest(counted, "batches") is None:
        if row_data.is_shared_out(train.x):
            return train  # of unknown length, but of equal length on all ranks
        raise EaiError(
            "the number of batches is unknown, and a rank that ends "
            "first would leave the others waiting",
            "pass steps_per_epoch= and repeat the data, or "
            "data.apply(tf.data.experimental.assert_cardinality(n))",
            code="steps-unknown",
        )
    counts = _counts(counted or 0, "batches")
    fewest = min(counts)
    if isinstance(train.x, tf.data.Dataset):
        return train if counts[collective.rank()] == fewest else train.with_x(train.x.take(fewest))
    return train.with_x(train.x, fewest)


def _equally_long(train: Batches) -> Batches:
    """Return data that ends after the same step on all ranks, where its length is known."""
    count = train.count
    table = collective.gather_numpy(np.array([-1 if count is None else count], np.int64))[:, 0]
    fewest = int(table.min())
    if fewest < 0 or (table == fewest).all():
        return train
    if train.kind == "arrays":
        return train.rows(0, fewest * (train.batch_size or DEFAULT_BATCH))
    if isinstance(train.x, tf.data.Dataset):
        return train.with_x(train.x.take(fewest))
    if isinstance(train.x, keras.utils.PyDataset):
        return train.with_x(PyDatasetPart(train.x, 0, fewest))
    return train


def _counts(count: int, what: str) -> list[int]:
    """Return all ranks' counts; say what the fewest leave out.

    Raises:
        EaiError: A rank has none.
    """
    counts: list[int] = collective.gather_numpy(np.array([count], np.int64))[:, 0].tolist()
    fewest, most = min(counts), max(counts)
    poor, rich = counts.index(fewest), counts.index(most)
    if fewest == 0:
        what_of_all = "no rank has any" if most == 0 else f"rank {rich} has {most:,}"
        raise EaiError(
            f"rank {poor} has no {what}, {what_of_all}: there is nothing that all ranks can train on",
            "share the rows out evenly, with eai.shard(data) on data that every rank has whole",
            code="too-few-rows",
        )
    left = sum(counts) - fewest * len(counts)
    if left:
        say(
            f"rank {poor} has {fewest:,} {what}, rank {rich} has {most:,}: every rank takes "
            f"{fewest:,}, so {left:,} of {sum(counts):,} are left out of each epoch "
            f"({100 * left / sum(counts):.1f} %); eai.shard(data) shares evenly"
        )
    return counts


@dataclass(frozen=True)
class Evaluation:
    """What this rank evaluates, and how the ranks' metrics become one.

    ``same`` says that every rank evaluates the same rows, which then count once; None that it
    is unknown, and found out by the metrics.
    """

    batches: Batches
    same: bool | None


def share_evaluation(model: keras.Model, whole: Batches, *, same: bool | None) -> Evaluation:
    """Return this rank's part of what is evaluated, `same` if all ranks have the same rows.

    Only what adds up is shared out: metrics that are sums, and models whose ranks do not look
    up each other's rows. Everything else is evaluated on all ranks and counted once.

    Raises:
        EaiError: Ranks look up each other's rows, and the number of steps is unknown.
    """
    spread = bool(parts(model.weights))
    if same:
        if not spread and _adds_up(model):
            part = _part(whole)
            if part is not None:
                return Evaluation(part, same=False)
        return Evaluation(whole, same=True)
    if spread and whole.steps is None:
        steps = rank_consistency.fewest(whole.count, "batches of validation data")
        if steps is None:
            raise EaiError(
                "the number of validation batches is unknown, and ranks look "
                "up each other's rows in every one",
                "pass validation_steps=",
                code="steps-unknown",
            )
        whole = Batches(whole.x, whole.y, whole.weight, whole.batch_size, steps)
    return Evaluation(whole, same)


def share_prediction(model: keras.Model, whole: Batches, *, same: bool | None) -> Batches | None:
    """Return this rank's part of rows to predict; None where it predicts all that it has.

    Raises:
        EaiError: Ranks look up each other's rows, and have not equally many batches.
    """
    if not parts(model.weights):
        return _part(whole) if same else None
    count = whole.steps or whole.count
    counts = collective.gather_numpy(np.array([-1 if count is None else count], np.int64))
    if (counts != counts[0]).any():
        raise EaiError(
            "ranks look up each other's rows in every batch, and have not equally many batches",
            "give every rank the same rows",
            code="ranks-have-different-steps",
        )
    return None


def _part(whole: Batches) -> Batches | None:
    """Return this rank's stretch, none left out over all ranks; None if it cannot be cut so."""
    if whole.steps is not None:
        return None
    if whole.kind == "arrays":
        rows = row_data.rows_in(whole.arrays)
        return whole.rows(*stretch(rows)) if rows >= collective.size() else None
    count = whole.count
    if count is None or count < collective.size():
        return None
    begin, end = stretch(count)
    if isinstance(whole.x, tf.data.Dataset) and not row_data.is_shuffled(whole.x):
        return whole.with_x(whole.x.skip(begin).take(end - begin))
    if isinstance(whole.x, keras.utils.PyDataset):
        return whole.with_x(PyDatasetPart(whole.x, begin, end - begin))
    return None


def _adds_up(model: keras.Model) -> bool:
    """Return whether a model's metrics over parts of the rows sum up to those over all."""
    own = type(model)
    plain = all(
        getattr(own, name) is getattr(keras.Model, name)
        for name in ("test_step", "compute_metrics")
    )
    return plain and all(map(is_additive, [*leaves(model.metrics), *unbuilt(model)]))
