"""Kinds of training data: count rows, take rows out.

Keras takes arrays in any nesting, pandas frames, `tf.data`, `keras.utils.PyDataset` and
generators. Everything that shares rows out, counts them or compares them asks here.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["arrays", "dataset", "py_dataset", "generator", "other"]


def kind_of(data: Any) -> Kind:
    """Return what kind of data `data` is, as ``model.fit`` would take it.

    Examples:
        >>> import numpy as np
        >>> kind_of({"a": np.ones(3)}), kind_of(tf.data.Dataset.range(3)), kind_of(7)
        ('arrays', 'dataset', 'other')
    """
    if isinstance(data, tf.data.Dataset):
        return "dataset"
    if isinstance(data, keras.utils.PyDataset):
        return "py_dataset"
    if isinstance(data, types.GeneratorType):
        return "generator"
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return "arrays" if leaves and all(map(_is_array, leaves)) else "other"


def rows_in(arrays: Any) -> int:
    """Return how many rows `arrays` have, a nesting of arrays of equal length.

    Raises:
        EaiError: They have not equally many.

    Examples:
        >>> import numpy as np
        >>> rows_in(({"a": np.ones((5, 2))}, np.ones(5), None))
        5
    """
    lengths = {int(leaf.shape[0]) for leaf in keras.tree.flatten(arrays) if leaf is not None}
    if len(lengths) != 1:
        found = " and ".join(str(length) for length in sorted(lengths))
        raise EaiError(
            f"the arrays have {found or 'no'} rows",
            "give arrays whose first axes are equally long, one row a sample",
            code="data-invalid",
        )
    return lengths.pop()


def take_rows(arrays: Any, begin: int, end: int) -> Any:
    """Return rows `begin` to `end` - 1 of each array in `arrays`, in the same nesting.

    Arrays are views, not copies, where their library allows it.

    Examples:
        >>> import numpy as np
        >>> take_rows([np.arange(5), None], 1, 3)
        [array([1, 2]), None]
    """
    return keras.tree.map_structure(lambda leaf: _taken(leaf, begin, end), arrays)


def chain_of(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Yield `dataset` and all datasets that it is made of.

    Examples:
        >>> [type(each).__name__ for each in chain_of(tf.data.Dataset.range(3).batch(2))]
        ['_BatchDataset', '_RangeDataset']
    """
    yield dataset
    for source in dataset._inputs():  # noqa: SLF001 -- there is no public way
        yield from chain_of(source)


def is_shared_out(data: Any) -> bool:
    """Return whether `data` comes from `eai_notebook.io` or `shard`: a rank's own part already."""
    if getattr(data, "_eai_sharded", False):
        return True
    if not isinstance(data, tf.data.Dataset):
        return False
    return any(
        getattr(each, "_eai_sharded", False)
        or not getattr(getattr(each, "plan", None), "whole", True)  # `eai_notebook.io.InputData`
        for each in chain_of(data)
    )


def is_shuffled(dataset: tf.data.Dataset) -> bool:
    """Return whether `dataset` draws the order of its elements at random."""
    return any(type(each).__name__ == "_ShuffleDataset" for each in chain_of(dataset))


def _is_array(leaf: Any) -> bool:
    shape = getattr(leaf, "shape", None)
    return shape is not None and len(shape) > 0 and not isinstance(leaf, keras.KerasTensor)


def _taken(leaf: Any, begin: int, end: int) -> Any:
    if leaf is None:
        return None
    if hasattr(leaf, "iloc"):
        return leaf.iloc[begin:end]
    if hasattr(leaf, "tocsr"):  # of scipy; not every kind of theirs can be cut
        return leaf.tocsr()[begin:end]
    if isinstance(leaf, tf.SparseTensor):
        first = [begin] + [0] * (len(leaf.shape) - 1)
        return tf.sparse.slice(leaf, first, [end - begin, *leaf.shape[1:]])
    return leaf[begin:end]
