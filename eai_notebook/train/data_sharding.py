"""`shard`: a rank's part of arrays, frames, `tf.data`, `PyDataset` or a generator."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import bookkeeping, collective
from eai_notebook.errors import EaiError
from eai_notebook.train import row_data, same_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

Uneven = Literal["drop", "repeat"]


def shard(*data: Any, uneven: Uneven = "drop") -> Any:
    """Return this rank's part of `data`, of which every rank has all: contiguous, equally long.

    Every rank then takes equally many steps, on other rows. Rank 0 says in one line what was
    left out or repeated. All ranks must call it together, with the same rows in the same
    order; it says so if they are not. Without a group it returns the data as it is.

    - Arrays, tensors, pandas frames, and tuples, lists and dicts of them: rank r of N gets the
      r-th stretch of rows, as a view where that is possible. Rows that are sorted, by class for
      example, should be mixed first, alike on all ranks: ``np.random.default_rng(0).permutation``.
    - `tf.data.Dataset`: the r-th stretch of its elements, which are batches if it is batched.
      Shuffle after it, not before. Where its length is unknown or endless, every N-th element.
    - `keras.utils.PyDataset`: the r-th stretch of its batches.
    - Generators: every N-th element.

    ``x[rank::size]`` is not the same: where rows alternate between two classes, it gives each of
    two ranks one class alone.

    Args:
        data: The data, or several: ``x, y = eai.shard(x, y)``.
        uneven: What becomes of rows that do not make an equal part for every rank: ``"drop"``
            leaves them out, ``"repeat"`` gives some rows to two ranks.

    Returns:
        The part, of the same kind as `data`; a tuple if several were given.

    Raises:
        EaiError: There are fewer rows than ranks, arrays differ in length, ranks have
            different numbers of rows, or `data` is of no kind that can be shared out.

    Examples:
        >>> x, y = shard(np.ones((8, 2)), np.ones(8))
        >>> x.shape
        (8, 2)
    """
    if not data:
        raise EaiError(
            "eai.shard was called without data",
            "eai.shard(x), or x, y = eai.shard(x, y)",
            code="no-data",
        )
    if uneven not in get_args(Uneven):
        raise EaiError(f"uneven is {uneven!r}", 'give "drop" or "repeat"', code="option-invalid")
    whole = data if len(data) > 1 else data[0]
    collective.ensure_formed()
    if collective.size() == 1:
        return whole
    if row_data.kind_of(whole) == "other" and isinstance(whole, tuple | dict):
        # (Lists of texts or numbers among arrays: each list is as long as the arrays.)
        if isinstance(whole, dict):
            return {name: shard(each, uneven=uneven) for name, each in whole.items()}
        return tuple(shard(each, uneven=uneven) for each in whole)
    if row_data.is_shared_out(whole):
        say("the data is shared out already: eai.shard leaves it as it is")
        return whole
    if isinstance(whole, list) and whole and row_data.kind_of(whole) == "other":
        return _of_list(whole, uneven)
    return _KINDS[row_data.kind_of(whole)](whole, uneven)


def say(line: str) -> None:
    """Print `line` once, from rank 0."""
    if collective.rank() == 0:
        bookkeeping.say(line)


def stretch(count: int) -> tuple[int, int]:
    """Return where this rank's part of `count` rows begins and ends, leaving none out.

    Parts differ by one row at most.

    Examples:
        >>> stretch(10)
        (0, 10)
    """
    size, rank = collective.size(), collective.rank()
    return rank * count // size, (rank + 1) * count // size


def _equal_stretch(count: int, uneven: Uneven, what: str) -> tuple[int, int]:
    """Return where this rank's part begins, and how long every part is; say what is left over.

    Raises:
        EaiError: Ranks have different counts, or there are too few for all ranks.
    """
    size, rank = collective.size(), collective.rank()
    counts = collective.gather_numpy(np.array([count], np.int64))[:, 0].tolist()
    for other, its in enumerate(counts):
        if its != counts[0]:
            raise EaiError(
                f"rank 0 has {counts[0]:,} {what}, rank {other} has {its:,}: these are not the "
                "same data",
                "give eai.shard all of the data on every rank; parts that ranks have already go "
                "to fit as they are",
                code="ranks-have-different-data",
            )
    if count < size:
        raise EaiError(
            f"{count} {what} cannot be shared out over {size} ranks",
            "take fewer ranks, or more data" if what == "rows" else "share out before batching",
            code="too-few-rows",
        )
    part, left = divmod(count, size)
    if left and uneven == "repeat":
        part += 1
        say(
            f"eai.shard: {part:,} of {count:,} {what} for each of {size} ranks; "
            f"{part * size - count:,} come twice, so that all have equally many"
        )
    elif left:
        say(
            f"eai.shard: {part:,} of {count:,} {what} for each of {size} ranks; the last "
            f"{f'{left:,} are' if left > 1 else 'one is'} left out, so that all have equally many"
        )
    return rank * part, part


def _check_same(data: Any) -> None:
    """Say so if the ranks' data have other rows before they are shared out."""
    if same_rows.compared([same_rows.fingerprint(data)]) == [False]:
        say(
            "eai.shard: the ranks do not have the same rows, so their parts may overlap: load and "
            "mix them alike on all ranks, with the same seed"
        )


def _of_arrays(arrays: Any, uneven: Uneven) -> Any:
    count = row_data.rows_in(arrays)
    begin, length = _equal_stretch(count, uneven, "rows")
    _check_same(arrays)
    begin = min(begin, count - length)  # (Only where rows are repeated would it cross the end.)
    return row_data.take_rows(arrays, begin, begin + length)


def _of_list(rows: list[Any], uneven: Uneven) -> list[Any]:
    """Share out a list of texts, numbers or records: each is a row."""
    begin, length = _equal_stretch(len(rows), uneven, "rows")
    begin = min(begin, len(rows) - length)
    return rows[begin : begin + length]


def _of_dataset(data: tf.data.Dataset, uneven: Uneven) -> tf.data.Dataset:
    count = int(data.cardinality())
    _check_order(data)
    _check_same(data)
    if count < 0:
        counts = collective.gather_numpy(np.array([count], np.int64))
        if (counts != count).any():
            raise EaiError(
                "some ranks know how long their dataset is and others do not",
                "give eai.shard the same dataset on all ranks",
                code="ranks-have-different-data",
            )
        part = _every_nth(data)
    else:
        begin, length = _equal_stretch(count, uneven, _elements(data))
        part = data.skip(min(begin, count - length)).take(length)
    part._eai_sharded = True  # noqa: SLF001 -- our own mark
    if (names := getattr(data, "class_names", None)) is not None:
        part.class_names = names  # as Keras hangs them on datasets of folders
    return part


def _elements(data: tf.data.Dataset) -> str:
    """Return what a dataset's elements are, in a word."""
    batched = any("Batch" in type(each).__name__ for each in row_data.chain_of(data))
    return "batches" if batched else "elements"


def _every_nth(data: tf.data.Dataset) -> tf.data.Dataset:
    """Return this rank's element of every N, of as many whole N as there are."""
    size, rank = collective.size(), collective.rank()
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        return data.shard(size, rank)

    def mine(*parts: Any) -> tf.data.Dataset:
        window = parts[0] if len(parts) == 1 and not isinstance(parts[0], tuple) else parts
        return tf.data.Dataset.zip(window).skip(rank).take(1)

    return data.window(size, drop_remainder=True).flat_map(mine)


def _check_order(data: tf.data.Dataset) -> None:
    """Say so if each rank draws another order, which parts are then taken of."""
    shuffles = [
        each for each in row_data.chain_of(data) if type(each).__name__ == "_ShuffleDataset"
    ]
    if not shuffles:
        return
    seeds = [int(seed) for each in shuffles for seed in (each._seed, each._seed2)]  # noqa: SLF001
    random = any(seeds[i] == seeds[i + 1] == 0 for i in range(0, len(seeds), 2))
    table = collective.gather_numpy(np.array([hash(tuple(seeds)), random], np.int64))
    if (table[:, 0] != table[0, 0]).any() or table[:, 1].any():
        say(
            "eai.shard: this dataset is shuffled before it is shared out, in another order on each "
            "rank, so some rows go to two ranks and others to none: shuffle after eai.shard, or "
            "with a seed"
        )


def _of_py_dataset(data: keras.utils.PyDataset, uneven: Uneven) -> keras.utils.PyDataset:
    count = data.num_batches
    _check_same(data)
    if count is None:
        return PyDatasetPart(data, collective.rank(), None, stride=collective.size())
    begin, length = _equal_stretch(count, uneven, "batches")
    return PyDatasetPart(data, min(begin, count - length), length)


class PyDatasetPart(keras.utils.PyDataset):  # type: ignore[misc,unused-ignore]
    """Batches of another `PyDataset`: `length` from `begin` on, or endlessly every `stride`-th."""

    def __init__(
        self, whole: keras.utils.PyDataset, begin: int, length: int | None, stride: int = 1
    ) -> None:
        super().__init__(
            workers=whole.workers,
            use_multiprocessing=whole.use_multiprocessing,
            max_queue_size=whole.max_queue_size,
        )
        self.whole = whole
        self._begin, self._length, self._stride = begin, length, stride
        self._eai_sharded = True

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch, None if it is endless."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Return a batch."""
        return self.whole[self._begin + index * self._stride]

    def on_epoch_begin(self) -> None:
        """Pass it on."""
        self.whole.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Pass it on."""
        self.whole.on_epoch_end()


def _of_generator(data: Iterator[Any], uneven: Uneven) -> Iterator[Any]:  # noqa: ARG001
    """Return this rank's element of every N; the last ones that are fewer than N are left out."""
    size, rank = collective.size(), collective.rank()

    def mine() -> Iterator[Any]:
        while len(few := list(itertools.islice(data, size))) == size:
            yield few[rank]

    return mine()


def _refused(data: Any, uneven: Uneven) -> Any:  # noqa: ARG001
    raise EaiError(
        f"eai.shard cannot share out a {type(data).__name__}",
        "give arrays, frames, tuples, lists or dicts of them, a tf.data.Dataset, a "
        "keras.utils.PyDataset or a generator",
        code="data-invalid",
    )


_KINDS: Any = {
    "arrays": _of_arrays,
    "dataset": _of_dataset,
    "py_dataset": _of_py_dataset,
    "generator": _of_generator,
    "other": _refused,
}
