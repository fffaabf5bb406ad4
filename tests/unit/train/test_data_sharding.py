"""`eai.shard` gives each rank another, contiguous, equally long part; fingerprints of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from paths import RANKS

import eai_notebook as eai
from eai_notebook.errors import EaiError
from eai_notebook.train.row_data import kind_of, rows_in, take_rows
from eai_notebook.train.same_rows import fingerprint

RunRanks = Callable[..., list[Any]]


class Frame:
    """What is used of a pandas frame."""

    def __init__(self, columns: np.ndarray) -> None:
        self.columns = columns
        self.shape = columns.shape

    @property
    def iloc(self) -> Frame:
        return self

    def __getitem__(self, where: Any) -> Frame:
        return Frame(self.columns[where])

    def to_numpy(self) -> np.ndarray:
        return self.columns


def test_every_kind_is_shared_out(run_ranks: RunRanks) -> None:
    first, second = run_ranks((RANKS / "data_sharding.py").read_text(), 2)
    assert first["arrays"][:2] == [[0, 2, 4], list("abc")]
    assert second["arrays"][:2] == [[6, 8, 10], list("def")]
    assert "the last one is left out" in first["arrays"][2]
    assert second["arrays"][2] == ""
    assert first["repeat"][:2] == [[0, 2, 4, 6], True]
    assert second["repeat"][:2] == [[6, 8, 10, 12], True]
    assert "1 come twice" in first["repeat"][2]
    assert first["nested"] == [[0, 2, 4]] * 2
    assert second["nested"] == [[6, 8, 10]] * 2
    assert [first["dataset"][0], second["dataset"][0]] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert "2 of 5 batches" in first["dataset"][1]
    assert first["dataset"][2] == 2
    assert [first["unknown"][0], second["unknown"][0]] == [[0, 3], [1, 4]]
    assert [first["endless"], second["endless"]] == [[0, 2, 0], [1, 3, 1]]
    assert "shuffle after eai.shard" in first["shuffled"]
    assert first["py_dataset"][:3] == [5, 2, [0, 1]]
    assert second["py_dataset"][:3] == [5, 2, [4, 5]]
    assert [first["generator"], second["generator"]] == [[0, 2], [1, 3]]
    assert [first["twice"][0], second["twice"][0]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert "shared out already" in first["twice"][1]
    assert "do not have the same rows" in first["other_rows"]
    assert first["mixed_alike"] == ""
    for report in (first, second):
        assert "rank 0 has 6 rows, rank 1 has 7" in report["other_length"]
        assert "1 rows cannot be shared out over 2 ranks" in report["too_few"]
        assert "cannot share out a int" in report["no_data"]


def test_without_a_group_data_stays_as_it_is() -> None:
    x, y = np.ones((5, 2)), np.ones(5)
    assert eai.shard(x) is x
    assert eai.shard(x, y)[1] is y
    with pytest.raises(EaiError, match='give "drop" or "repeat"'):
        eai.shard(x, uneven="pad")
    with pytest.raises(EaiError, match="without data"):
        eai.shard()


def test_rows_are_counted_and_taken_from_frames_and_sparse_tensors() -> None:
    frame = Frame(np.arange(8).reshape(4, 2))
    assert kind_of(frame) == "arrays"
    assert rows_in([frame, np.ones(4)]) == 4
    assert take_rows(frame, 1, 3).columns.tolist() == [[2, 3], [4, 5]]
    sparse = tf.sparse.from_dense(np.eye(4))
    assert tf.sparse.to_dense(take_rows(sparse, 2, 4)).numpy().tolist() == np.eye(4)[2:].tolist()
    ragged = tf.ragged.constant([[1], [2, 3], [4]])
    assert take_rows(ragged, 1, 3).to_list() == [[2, 3], [4]]
    with pytest.raises(EaiError, match="3 and 4 rows"):
        rows_in((np.ones(3), np.ones(4)))


X = np.random.default_rng(0).normal(size=(50, 3, 4)).astype("float32")


def _flow(x: Any, scale: float = 1.0) -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices((x, x[:, 0])).map(lambda a, b: (a * scale, b))
    return rows.shuffle(20).batch(8).prefetch(2)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (X, X[np.random.default_rng(1).permutation(50)], True),
        (X, X[:49], False),
        (X[:25], X[25:], False),
        (X.astype("float64"), X, False),
        ((X, X[:, 0]), (X, X[::-1, 0]), False),
        (np.array(["a", "b"]), np.array(["a", "c"]), False),
        (np.array(["a", "b"], object), np.array(["b", "a"], object), True),
        (Frame(X[:, 0]), Frame(X[:, 0]), True),
        (_flow(X), _flow(X), True),
        (_flow(X[:25]), _flow(X[25:]), False),
        (_flow(X), _flow(X, 2.0), False),
        (_flow(X).shard(2, 0), _flow(X).shard(2, 1), False),
        (_flow(X).take(2), _flow(X).skip(2), False),
        (tf.data.Dataset.range(4), tf.data.Dataset.range(4, 8), False),
    ],
)
def test_a_fingerprint_shows_other_rows_but_not_another_order(
    one: Any, other: Any, same: bool
) -> None:
    assert fingerprint(one) is not None
    assert (fingerprint(one) == fingerprint(other)) is same


def test_what_only_python_knows_has_no_fingerprint_and_is_not_asked() -> None:
    asked = []

    def rows() -> Any:
        asked.append(1)
        yield 1

    spec = tf.TensorSpec([], tf.int64)
    assert fingerprint(tf.data.Dataset.from_generator(rows, output_signature=spec)) is None
    assert fingerprint(rows()) is None
    assert fingerprint([1, 2]) is None
    assert not asked
