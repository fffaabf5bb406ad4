"""Detect that all ranks got the same rows, by fingerprints of their data.

Of arrays, every row counts, through some of its bytes, in any order: a rank that shuffles the
same rows differently still has the same. Of a `tf.data.Dataset`, what it is made of counts:
its source arrays and file names, and the operations on them. Nothing is iterated, so no
generator is consumed and no file is read. Of a `PyDataset`, the first batch counts.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.train.replica_check import checksum
from eai_notebook.train.row_data import chain_of, is_shared_out, kind_of, rows_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BYTES: Final = 1 << 25
"""How many bytes of an array are looked at, in about a tenth of a second."""

_ELEMENTS: Final = 16
"""How many elements of a row are looked at."""

_OBJECTS: Final = 100_000
"""How many Python objects are looked at."""

_FILES: Final = 64
"""How many file names are looked up, for the files' sizes."""

_LONGEST_NAME: Final = 1024
"""How long a text may be to be looked up as a file's name."""

_UNTOLD: Final = frozenset({"_name", "_seed", "_seed2", "_buffer_size", "_num_parallel_calls"})
"""What a dataset's operation may have otherwise on each rank and still give the same rows."""

_PYTHON: Final = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset"})
"""Operations that ask Python: what they give is unknown."""


def fingerprint(data: Any) -> int | None:
    """Return a number that is equal for equal rows, None where it cannot be known cheaply.

    Data that `eai_notebook.io` or `eai.shard` has shared out has none: it need not be compared.

    Examples:
        >>> rows = np.arange(12.0).reshape(6, 2)
        >>> fingerprint(rows) == fingerprint(rows[::-1]), fingerprint(rows) == fingerprint(rows + 1)
        (True, False)
    """
    kind = kind_of(data)
    try:
        if kind == "arrays":
            leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
            return _rows(leaves, rows_in(data))
        if kind == "dataset" and not is_shared_out(data):
            return _dataset(data)
        if kind == "py_dataset" and not is_shared_out(data):
            return _py_dataset(data)
    except Exception:  # noqa: BLE001 -- a comparison must never end a training; it is left out
        return None
    return None


def compared(fingerprints: Sequence[int | None]) -> list[bool | None]:
    """Return for each fingerprint whether all ranks have the same; None where one has none.

    All ranks must call it together, with equally many.
    """
    known = [value is not None for value in fingerprints]
    values = [0 if value is None else value & 0x7FFF_FFFF_FFFF_FFFF for value in fingerprints]
    table = collective.gather_numpy(np.array([known, values], np.int64))
    return [
        bool((table[:, 1, i] == table[0, 1, i]).all()) if table[:, 0, i].all() else None
        for i in range(len(fingerprints))
    ]


def _rows(leaves: Sequence[Any], rows: int) -> int:
    """Return the sum of the rows' hashes, in which their order does not count."""
    hashes = np.zeros(rows, np.uint64)
    for leaf in leaves:
        # (A row's parts must not be exchangeable with another row's.)
        hashes = _mixed(hashes * np.uint64(31) + _row_hashes(leaf, rows))
    return _joined([rows, int(hashes.sum(dtype=np.uint64))])


def _row_hashes(leaf: Any, rows: int) -> np.ndarray:
    """Return one uint64 a row of an array, a frame or a tensor."""
    if hasattr(leaf, "iloc"):
        columns = leaf.shape[1] if len(leaf.shape) > 1 else 0
        if columns:
            found = np.zeros(rows, np.uint64)
            for column in range(min(columns, _ELEMENTS)):
                found = found * np.uint64(31) + _row_hashes(leaf.iloc[:, column].to_numpy(), rows)
            return found
        leaf = leaf.to_numpy()
    if hasattr(leaf, "tocsr"):
        sparse = leaf.tocsr()
        return np.full(rows, checksum(sparse.data[:_OBJECTS]) ^ checksum(sparse.indptr), np.uint64)
    if isinstance(leaf, tf.SparseTensor | tf.RaggedTensor):
        values = np.asarray(leaf.values if isinstance(leaf, tf.SparseTensor) else leaf.flat_values)
        return np.full(rows, _rows([values], len(values)), np.uint64)
    flat = np.asarray(leaf).reshape(rows, -1)
    if not flat.size:
        return np.zeros(rows, np.uint64)
    width = flat.shape[1]
    picked = min(_ELEMENTS, width, max(1, _BYTES // max(1, rows * flat.itemsize)))
    chosen = flat[:, np.linspace(0, width - 1, picked).astype(int)]
    if chosen.dtype.hasobject:
        stride = max(1, chosen.size // _OBJECTS)
        found = np.zeros(rows, np.uint64)
        found[::stride] = [zlib.crc32(repr(row.tolist()).encode()) for row in chosen[::stride]]
        return found
    octets = np.ascontiguousarray(chosen).view(np.uint8).reshape(rows, -1)
    octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8)))
    words = octets.view(np.uint64)
    found = np.zeros(rows, np.uint64)
    for column in range(words.shape[1]):
        found = _mixed(found ^ words[:, column])
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread each number's bits over all of its bits, as SplitMix64 does."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _py_dataset(data: keras.utils.PyDataset) -> int | None:
    batch = [leaf for leaf in keras.tree.flatten(data[0]) if leaf is not None]
    if not batch or not all(getattr(leaf, "shape", None) for leaf in batch):
        return None
    return _joined([data.num_batches or -1, *(_rows([leaf], len(leaf)) for leaf in batch)])


def _dataset(data: tf.data.Dataset) -> int | None:
    found = []
    for each in chain_of(data):
        part = _operation(each)
        if part is None:
            return None
        found.append(part)
    return _joined(found)


def _operation(each: tf.data.Dataset) -> int | None:
    """Return a number for one of the datasets that a dataset is made of."""
    parts: list[int] = [zlib.crc32(type(each).__name__.encode())]
    for name, value in sorted(vars(each).items()):
        if name in _UNTOLD or name.endswith("_attr") or isinstance(value, tf.data.Dataset):
            continue
        function = getattr(value, "function", None)
        if hasattr(function, "captured_inputs"):
            described = _function(function)
            if described is None:
                return None
            parts.append(described)
        else:
            parts += [_tensor(leaf) for leaf in _eager(value)]
    return _joined(parts)


def _function(function: Any) -> int | None:
    """Return a number for a function that a dataset applies; None if it asks Python."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for nested in graph.library.function for node in nested.node_def)]
    if any(node.op in _PYTHON for node in nodes):
        return None
    parts = []
    for node in nodes:
        for seed in ("seed", "seed2", "f", "_output_shapes"):
            node.attr.pop(seed, None)
        parts.append(zlib.crc32(node.op.encode()))
        if node.op == "Const":
            parts.append(zlib.crc32(node.attr["value"].SerializeToString(deterministic=True)))
    parts += [_tensor(leaf) for leaf in _eager(list(function.captured_inputs))]
    return _joined(parts)


def _eager(value: Any) -> list[tf.Tensor]:
    """Return the tensors in `value` that can be looked at."""
    leaves = tf.nest.flatten(value, expand_composites=True)
    plain = [leaf for leaf in leaves if tf.is_tensor(leaf) and hasattr(leaf, "numpy")]
    return [leaf for leaf in plain if leaf.dtype not in (tf.resource, tf.variant)]


def _tensor(tensor: tf.Tensor) -> int:
    values = np.asarray(tensor)  # (`numpy()` would copy it)
    if tensor.shape.rank == 0:
        return zlib.crc32(repr(values).encode())
    described = [_rows([values], len(values))]
    if tensor.dtype == tf.string:
        described += _sizes(values.ravel())
    return _joined(described)


def _sizes(names: np.ndarray) -> Iterable[int]:
    """Return the sizes of the files that are named: hosts may have other files of one name."""
    for name in names[:: max(1, len(names) // _FILES)]:
        if len(name) < _LONGEST_NAME and os.path.isfile(name):  # noqa: PTH113 -- these are bytes
            yield os.path.getsize(name)  # noqa: PTH202


def _joined(numbers: Iterable[int]) -> int:
    text = ",".join(str(number & 0xFFFF_FFFF_FFFF_FFFF) for number in numbers)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
