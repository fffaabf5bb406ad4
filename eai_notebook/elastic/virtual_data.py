"""The batches of virtual ranks: any live rank can begin with any step of any of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from eai_notebook.collective.reading_rank import as_virtual_rank
from eai_notebook.errors import EaiError
from eai_notebook.train import row_data
from eai_notebook.train.fit_data import DEFAULT_BATCH, Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Opened = Any
"""What a function returns that opens a virtual rank's data: arrays, or a `tf.data.Dataset`."""

_REMEDY = (
    "give arrays that every rank has whole, data of eai.io, or a function of (rank, size), or "
    "(rank, size, epoch), that returns what that virtual rank trains on"
)


class VirtualData(Protocol):
    """Batches by virtual rank, epoch and step; the same for every caller, and at every call."""

    def count(self, virtual: int) -> int:
        """Return how many batches a virtual rank has in an epoch."""

    def batch(self, virtual: int, epoch: int, step: int) -> Any:
        """Return a batch, as ``train_step`` takes it: a tuple of tensors."""

    def begin(self, block: range, epoch: int) -> None:
        """Let go of what belongs to other virtual ranks or epochs."""


class SharedRows:
    """Arrays that every rank has whole, shared out over virtual ranks: contiguous stretches.

    No row is left out, so stretches may differ by one row. With `shuffle` the order within one
    depends on the seed, the epoch and the virtual rank, and on nothing else.
    """

    def __init__(self, data: Batches, virtual: int, *, shuffle: bool, seed: int = 0) -> None:
        self._arrays = keras.tree.map_structure(_as_array, (data.x, data.y, data.weight))
        self._rows = row_data.rows_in(self._arrays)
        self._size = data.batch_size or DEFAULT_BATCH
        self._virtual, self._shuffle, self._seed = virtual, shuffle, seed
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        if self._rows < virtual:
            raise EaiError(
                f"{self._rows} rows cannot be shared out over {virtual} virtual ranks",
                "take fewer virtual ranks, or more data",
                code="too-few-rows",
            )

    def count(self, virtual: int) -> int:
        """Return how many batches a virtual rank has in an epoch."""
        begin, end = self._stretch(virtual)
        return -(-(end - begin) // self._size)

    def batch(self, virtual: int, epoch: int, step: int) -> Any:
        """Return a batch."""
        order = self._orders.get((virtual, epoch))
        if order is None:
            order = self._orders[virtual, epoch] = self._order(virtual, epoch)
        rows = order[step * self._size : (step + 1) * self._size]
        x, y, weight = keras.tree.map_structure(
            lambda leaf: None if leaf is None else tf.convert_to_tensor(leaf[rows]), self._arrays
        )
        return tuple(part for part in (x, y, weight) if part is not None) if y is not None else (x,)

    def begin(self, block: range, epoch: int) -> None:
        """Let go of the orders of other virtual ranks and epochs."""
        self._orders = {
            key: order for key, order in self._orders.items() if key[0] in block and key[1] == epoch
        }

    def _stretch(self, virtual: int) -> tuple[int, int]:
        share = self._rows, self._virtual
        return virtual * share[0] // share[1], (virtual + 1) * share[0] // share[1]

    def _order(self, virtual: int, epoch: int) -> np.ndarray:
        rows = np.arange(*self._stretch(virtual))
        if not self._shuffle:
            return rows
        return np.random.default_rng((self._seed, epoch, virtual)).permutation(rows)


class OpenedData:
    """Data that a function opens for a virtual rank, where and when it is wanted.

    Readers of `eai_notebook.io` that it calls open the rows of the virtual rank, each in an order that
    follows from the seed, the epoch and the virtual rank.

    Args:
        opener: A function of (rank, size), or of (rank, size, epoch) where an epoch's order
            differs from the next one's.
        virtual: How many virtual ranks there are.
        batch_size: Rows in a batch, where it returns arrays.
    """

    def __init__(self, opener: Callable[..., Opened], virtual: int, batch_size: int | None) -> None:
        self._opener, self._virtual, self._batch_size = opener, virtual, batch_size
        self._of_epoch = len(inspect.signature(opener).parameters) > 2  # noqa: PLR2004
        self._opened: dict[int, tuple[int, Opened]] = {}
        self._loops: dict[int, _Loop] = {}

    def count(self, virtual: int) -> int:
        """Return how many batches a virtual rank has in an epoch."""
        data = self._open(virtual, 0)
        if isinstance(data, SharedRows):
            return data.count(0)
        count = int(data.cardinality())
        if count < 0:
            raise EaiError(
                "the number of batches of a virtual rank is unknown, and another rank could not "
                "go on with them",
                "data.apply(tf.data.experimental.assert_cardinality(n))",
                code="elastic-data",
            )
        return count

    def batch(self, virtual: int, epoch: int, step: int) -> Any:
        """Return a batch."""
        data = self._open(virtual, epoch)
        if isinstance(data, SharedRows):
            return data.batch(0, epoch, step)
        loop = self._loops.get(virtual)
        if loop is None or not loop.can_give(epoch, step):
            loop = self._loops[virtual] = _Loop(data, epoch, step)
        return loop.give(step)

    def begin(self, block: range, epoch: int) -> None:  # noqa: ARG002 -- an epoch replaces the last
        """Let go of what belongs to other virtual ranks."""
        for key in self._opened.keys() - set(block):
            _, data = self._opened.pop(key)
            for reader in _readers(data):
                reader.close()
        self._loops = {key: value for key, value in self._loops.items() if key in block}

    def _open(self, virtual: int, epoch: int) -> Any:
        epoch = epoch if self._of_epoch else 0
        known = self._opened.get(virtual)
        if known is not None and known[0] == epoch:
            return known[1]
        asked = (virtual, self._virtual, epoch) if self._of_epoch else (virtual, self._virtual)
        with as_virtual_rank(virtual, self._virtual):
            data = self._opener(*asked)
        if not isinstance(data, tf.data.Dataset):
            batches = Batches.of(data, self._batch_size)
            if batches.kind != "arrays":
                what = f"a virtual rank's data is a {type(data).__name__}"
                raise EaiError(what, _REMEDY, code="elastic-data")
            data = SharedRows(batches, 1, shuffle=True, seed=virtual)
        elif row_data.is_shuffled(data) and not self._of_epoch:
            raise EaiError(
                "the data of a virtual rank is shuffled by tf.data, in an order that another rank "
                "could not repeat",
                "give a function of (rank, size, epoch) that shuffles with a seed made of them",
                code="elastic-data",
            )
        elif row_data.is_shared_out(data):
            raise EaiError(
                "a virtual rank's data is that of a live rank: it was shared out before",
                "have the function open it, with eai.io or with the rank and size that it is given",
                code="elastic-data",
            )
        self._opened[virtual] = epoch, data
        return data


class _Loop:
    """A loop over a dataset, which begins at a step; the last batch can be had again."""

    def __init__(self, data: tf.data.Dataset, epoch: int, step: int) -> None:
        self._epoch, self._step = epoch, step - 1
        self._batch: Any = None
        self._iterator: Iterator[Any] = iter(_from_step(data, epoch, step))

    def can_give(self, epoch: int, step: int) -> bool:
        return epoch == self._epoch and step in (self._step, self._step + 1) and step >= 0

    def give(self, step: int) -> Any:
        if step != self._step or self._batch is None:
            batch = next(self._iterator)
            self._batch = batch if isinstance(batch, tuple) else (batch,)
            self._step = step
        return self._batch


def _from_step(data: tf.data.Dataset, epoch: int, step: int) -> tf.data.Dataset:
    """Return a dataset that begins at a step of an epoch."""
    for reader in _readers(data):
        alone = reader is data  # else the reader's steps may not be those of what is made of it
        reader.go_to(reader.position(epoch, step if alone else 0))
        if alone:
            return data
    return data.skip(step) if step else data


def _readers(data: Any) -> list[Any]:
    """Return the readers of `eai_notebook.io` that data is made of."""
    if not isinstance(data, tf.data.Dataset):
        return []
    return [each for each in row_data.chain_of(data) if hasattr(each, "go_to")]


def virtual_data(
    data: Any, batches: Batches, virtual: int, *, shuffle: bool
) -> SharedRows | OpenedData:
    """Return the batches of virtual ranks, from what `fit` was given.

    Raises:
        EaiError: It is data that only the rank that has it can read.
    """
    if callable(data) and not isinstance(data, tf.data.Dataset):
        return OpenedData(data, virtual, batches.batch_size)
    again = getattr(data, "open_again", None)
    if again is not None:
        return OpenedData(lambda _rank, _size: again(), virtual, None)
    if batches.kind != "arrays":
        what = f"elastic training cannot share out a {type(data).__name__} over virtual ranks"
        raise EaiError(what, _REMEDY, code="elastic-data")
    return SharedRows(batches, virtual, shuffle=shuffle)


def _as_array(leaf: Any) -> np.ndarray | None:
    """Return a leaf as an array, with the precision that Keras computes in."""
    if leaf is None:
        return None
    array = np.asarray(leaf)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
