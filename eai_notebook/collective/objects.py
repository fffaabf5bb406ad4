"""Small objects as bytes that nobody can run anything with: JSON, and arrays beside it.

MPI asks its peers for no key. So what ranks exchange is never pickled: unpickling runs whatever
code the bytes name.
"""

from __future__ import annotations

import io
import json
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from mpi4py import MPI

_HEAD: Final = struct.Struct("<Q")
_TAG: Final = "eai:"
_PLAIN: Final = (str, int, float, bool, type(None))


def encode(value: Any) -> bytes:
    """Return `value` as bytes: numbers, text, bytes, None, lists, tuples, dicts and NumPy arrays of them.

    Raises:
        EaiError: it holds something else.

    Examples:
        >>> decode(encode({"rows": (1, 2), 3: np.zeros(2), "data": b"x"}))
        {'rows': (1, 2), 3: array([0., 0.]), 'data': b'x'}
    """
    parts: list[bytes] = []
    text = json.dumps(_plain(value, parts)).encode()
    sizes = [len(text), *map(len, parts)]
    head = _HEAD.pack(len(sizes)) + b"".join(map(_HEAD.pack, sizes))
    return head + text + b"".join(parts)


def decode(data: bytes) -> Any:
    """Return what `encode` made `data` of.

    Raises:
        ValueError: `data` is damaged.
    """
    try:
        count = _HEAD.unpack_from(data)[0]
        if count > len(data) // _HEAD.size:
            raise ValueError("too many parts")  # noqa: TRY301
        sizes = [_HEAD.unpack_from(data, _HEAD.size * (1 + each))[0] for each in range(count)]
        at, parts = _HEAD.size * (1 + count), []
        for size in sizes:
            if at + size > len(data):
                raise ValueError("cut off")  # noqa: TRY301
            parts.append(data[at : at + size])
            at += size
        return _back(json.loads(parts[0]), parts[1:])
    except (struct.error, LookupError, ValueError, TypeError, EOFError) as error:
        message = f"damaged message of another rank ({error})"
        raise ValueError(message) from None


def _plain(value: Any, parts: list[bytes]) -> Any:
    """Return `value` as JSON knows it; what JSON does not know becomes a dict with one tag."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list):
        return [_plain(each, parts) for each in value]
    if isinstance(value, tuple):
        return {f"{_TAG}tuple": [_plain(each, parts) for each in value]}
    if isinstance(value, dict):
        return {f"{_TAG}dict": [[_plain(k, parts), _plain(v, parts)] for k, v in value.items()]}
    if isinstance(value, bytes):
        parts.append(value)
        return {f"{_TAG}bytes": len(parts) - 1}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        parts.append(file.getvalue())
        return {f"{_TAG}array": len(parts) - 1}
    what = f"an object of type {type(value).__name__} cannot travel between ranks"
    raise EaiError(
        what, "pass numbers, text, lists, dicts or NumPy arrays", code="not-exchangeable"
    )


def _back(value: Any, parts: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_back(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == f"{_TAG}tuple":
        return tuple(_back(each, parts) for each in content)
    if tag == f"{_TAG}dict":
        return {_back(k, parts): _back(v, parts) for k, v in content}
    if tag == f"{_TAG}bytes":
        return parts[content]
    if tag == f"{_TAG}array":
        return np.load(io.BytesIO(parts[content]), allow_pickle=False)
    message = f"no such part: {tag}"
    raise ValueError(message)


def broadcast(comm: MPI.Comm, value: Any) -> Any:
    """Return on every rank of `comm` what its rank 0 passed, by MPI itself, without Horovod."""
    data = encode(value) if comm.rank == 0 else b""
    length = np.array([len(data)], np.int64)
    comm.Bcast(length)
    buffer = np.frombuffer(data, np.uint8).copy() if comm.rank == 0 else np.zeros(length, np.uint8)
    comm.Bcast(buffer)
    return decode(buffer.tobytes())


def gather_all(comm: MPI.Comm, numbers: Any) -> np.ndarray:
    """Return the ranks' float64 arrays of one shape, stacked, on every rank of `comm`."""
    mine = np.asarray(numbers, np.float64)
    table = np.zeros((comm.size, *mine.shape))
    comm.Allgather(mine, table)
    return table
