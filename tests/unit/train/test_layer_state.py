"""Vocabularies, adapted statistics and constants are the same on all ranks, or it is an error."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from paths import RANKS

from eai_notebook.engine import variable_digest
from eai_notebook.train import map_constants
from eai_notebook.train.layer_state import state_of

RunRanks = Callable[..., list[Any]]


def test_ranks_that_preprocess_otherwise_are_named(run_ranks: RunRanks) -> None:
    reports = run_ranks((RANKS / "layer_state.py").read_text(), 2)
    for found in reports:
        for layer, said in found["refused"].items():
            assert said is not None, layer
            assert "of rank 1 computes with another" in said
            kinds = {"TextVectorization": "StringLookup", "callbacks": "Normalization"}
            assert said.startswith(kinds.get(layer, layer))
        assert set(found["accepted"].values()) == {None}
        pipeline = found["pipeline"]
        assert "of rank 1 computes with another vocabulary" in pipeline["vocabulary"]
        assert "of rank 1 computes with another set of bin boundaries" in pipeline["bins"]
        assert pipeline["same"] is pipeline["own"] is None
        for what, (one, together) in found["same"].items():
            assert together == one, what
        for what, (one, together) in found["near"].items():
            rtol, atol = (0.02, 0.1) if what == "bins" else (1e-4, 1e-6)
            assert np.allclose(one, together, rtol, atol), what
        assert "a Dense cannot be adapted" in found["no adapt"]
    assert reports[0]["near"] == reports[1]["near"]
    # Rank 1 hears what is wrong with its rows, and rank 0 whose they are.
    assert "rank 1 cannot adapt" in reports[0]["unreadable"]
    assert "could not convert string" in reports[0]["unreadable"]
    assert reports[1]["unreadable"].startswith("ValueError: could not convert string")


@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_pipeline_computes_with_is_known_from_its_rows(rank: int) -> None:
    mean = np.array([1.0, 2.0], "f4") + rank
    norm = keras.layers.Normalization(mean=mean, variance=[1.0, 2.0])
    rows = np.ones((4, 2), "f4") * rank

    def what(function: Any) -> list[tuple[str, int]]:
        found = map_constants.constants_in(tf.data.Dataset.range(4).map(function).batch(2))
        return [(constant.what, constant.value) for constant in found]

    def constant(name: str, value: Any) -> tuple[str, int]:
        return name, zlib.crc32(np.asarray(value, "f4").tobytes())

    assert constant("constant (float32 [2])", mean) in what(lambda _: norm(tf.ones((1, 2))))
    assert constant("constant (float32 [])", mean[0]) in what(lambda _: tf.ones(()) - mean[0])
    assert what(lambda i: tf.constant(rows)[i]) == []  # data
    assert what(lambda i: tf.strings.join([f"folder-{rank}", tf.as_string(i)])) == []
    assert what(lambda i: i % 2 + rank) == []
    assert what(lambda _: tf.py_function(lambda: rows[0], [], "float32")) == []


def test_names_seeds_and_shapes_are_each_ranks_own() -> None:
    one = keras.layers.Dense(2, name="a", kernel_initializer=keras.initializers.HeNormal(seed=1))
    other = keras.layers.Dense(2, name="b", kernel_initializer=keras.initializers.HeNormal(seed=2))
    assert state_of(one) == state_of(other)
    assert state_of(keras.layers.Dense(2, dtype="float16")) != state_of(one)


def test_a_lambda_of_a_cell_is_compared_without_its_file() -> None:
    def configuration(source: str, file: str) -> Any:
        scope: dict[str, Any] = {"help": object()}
        program = f"def made():\n  a = [help]\n  return {source}\nf = made()"
        exec(compile(program, file, "exec"), scope)  # noqa: S102 -- as a cell is run
        return state_of(keras.layers.Lambda(scope["f"]))["configuration"]

    source = "lambda x, by=2.0: (x * by if by in {1.0, 2.0, 'a', 'b'} else a)"
    here = configuration(source, "one.py")
    assert configuration(source, "other.py") == here
    assert configuration(source.replace("by=2.0", "by=3.0"), "one.py") != here
    assert configuration(source.replace("x * by", "x + by"), "one.py") != here


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        (
            keras.layers.StringLookup(vocabulary=["a", "b"]),
            keras.layers.StringLookup(vocabulary=["b", "a"]),
            "x.StringLookup[0].vocabulary",
        ),
        (
            keras.Sequential([keras.Input((2,)), keras.layers.Normalization(mean=1, variance=2)]),
            keras.Sequential([keras.Input((2,)), keras.layers.Normalization(mean=3, variance=2)]),
            "x.Normalization[0].mean",
        ),
    ],
)
def test_diff_looks_at_what_layers_compute_with(one: Any, other: Any, path: str) -> None:
    first = [
        (where, variable_digest._checksum(part)) for where, part in variable_digest.parts("x", one)
    ]
    second = [
        (where, variable_digest._checksum(part))
        for where, part in variable_digest.parts("x", other)
    ]
    differ = [a[0] for a, b in zip(first, second, strict=True) if a != b]
    assert path in differ
