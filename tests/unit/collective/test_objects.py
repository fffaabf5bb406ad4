"""What ranks exchange beside arrays: it comes back as it was, and is never pickled."""

from __future__ import annotations

import ast
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

import eai_notebook
from eai_notebook.collective.objects import decode, encode
from eai_notebook.errors import EaiError


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1 << 70,
        -0.5,
        "ä\x00",
        b"\x80",
        [],
        (),
        {},
        [1, (2, [b""])],
        {1: "a", (1, 2): None},
    ],
)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "bool", "S3", "U2", "uint64", "complex64"])
def test_an_array_comes_back_with_its_dtype_and_shape(dtype: str) -> None:
    array = np.zeros((2, 0, 3) if dtype == "S3" else (2, 3), dtype)
    found = decode(encode({"a": array}))["a"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), Path("x")])
def test_what_cannot_travel_is_named(value: object) -> None:
    with pytest.raises(EaiError, match=type(value).__name__):
        encode([value])


def test_a_pickle_is_not_loaded() -> None:
    with pytest.raises(ValueError, match="damaged"):
        decode(pickle.dumps({"a": 1}))


def test_damaged_bytes_are_an_error() -> None:
    whole = encode({"a": np.arange(5), "b": [b"xy", "text"]})
    chance = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode(bytes(damaged[: chance.randint(0, len(damaged))]))
        except ValueError:
            continue


def test_no_rank_unpickles_what_came_over_mpi() -> None:
    # mpi4py's functions in lower case pickle; Horovod's `*_object` do, too.
    forbidden = {"bcast", "gather", "allgather", "scatter", "alltoall", "allreduce", "send", "recv"}
    for path in (Path(eai_notebook.__file__).parent / "collective").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert "pickle" not in {alias.name for alias in node.names}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, of = node.func.attr, ast.unparse(node.func.value)
                assert not name.endswith("_object"), (path, name)
                if of in {"world", "comm", "here", "leaders", "communicator()"}:
                    assert name not in forbidden, (path, name)
