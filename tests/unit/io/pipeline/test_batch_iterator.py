"""A loop in Python and one in a graph get the same batches, each once."""

from __future__ import annotations

import functools
import mmap
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click_log_files import row, row_number, write_log
from expected_errors import raises_code

import eai_notebook as eai
from eai_notebook.io import criteo
from eai_notebook.io.memory.alignment import adjacent_runs, aligned
from eai_notebook.io.memory.dlpack import tensor_of, tensors_of
from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS, BATCH = 200, 20


@pytest.fixture
def file(tmp_path: Path) -> str:
    write_log(tmp_path / "train.tsv", range(ROWS))
    return str(tmp_path / "train.tsv")


@tf.function
def first_numbers(iterator: Any) -> tf.Tensor:
    return next(iterator)[0]["numbers"][:, 0]


def numbers_in(column: tf.Tensor) -> list[int]:
    return [row_number(value) for value in column.numpy().tolist()]


def test_a_graph_goes_on_where_a_loop_in_python_has_stopped(file: str) -> None:
    data = criteo(file, BATCH, shuffle=False)
    batches = iter(data)
    found = [number for _ in range(3) for number in numbers_in(next(batches)[0]["numbers"][:, 0])]
    for _ in range(3):
        found += numbers_in(first_numbers(batches))
    # Back in Python.
    for features, _ in batches:
        found += numbers_in(features["numbers"][:, 0])
    assert found == list(range(ROWS))
    assert data.epochs_begun == 1
    assert data.epoch == 1


def test_a_loop_that_goes_on_within_an_epoch_does_so_in_python_and_in_a_graph(file: str) -> None:
    data = criteo(file, BATCH, shuffle=False)
    for ask in (lambda batches: next(batches)[0]["numbers"][:, 0], first_numbers):
        data.go_to(data.position(epoch=0, step=7))
        assert numbers_in(ask(iter(data))) == list(range(7 * BATCH, 8 * BATCH))


def test_a_loop_is_over_after_its_last_batch(file: str) -> None:
    batches = iter(criteo(file, BATCH))
    assert len(list(batches)) == ROWS // BATCH
    assert next(batches, None) is None


def test_both_ways_give_the_same_types_and_shapes(file: str) -> None:
    data = criteo(file, BATCH, uneven="pad")
    batch = next(iter(data))
    tf.nest.assert_same_structure(batch, data.element_spec)
    for tensor, spec in zip(
        tf.nest.flatten(batch), tf.nest.flatten(data.element_spec), strict=True
    ):
        assert spec.is_compatible_with(tensor)


def test_a_bad_row_in_a_loop_in_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text(row(0) + "\n1\tshort\n" + row(2) + "\n")
    with raises_code("row-bad", "bad.tsv row 2"):
        next(iter(criteo(str(tmp_path / "bad.tsv"), 1)))


def test_a_measured_fit_knows_how_long_it_waited_for_each_batch(
    file: str, request: pytest.FixtureRequest
) -> None:
    rows: dict[str, list[np.ndarray]] = {}  # by run: an earlier test's may still be on its way

    def note(batch: Sequence[messages.Message]) -> None:
        for message in batch:
            if isinstance(message, messages.StepsDone):
                rows.setdefault(message.run, []).append(message.rows)

    request.addfinalizer(functools.partial(messages.set_sink, messages.set_sink(note)))
    numbers = keras.Input((13,), name="numbers")
    ids = keras.Input((26,), name="ids", dtype="int32")
    output = keras.layers.Dense(1, activation="sigmoid")(numbers)
    model = keras.Model({"numbers": numbers, "ids": ids}, output)
    model.compile(eai.DistributedOptimizer("sgd"), "binary_crossentropy")
    eai.fit(model, criteo(file, BATCH), epochs=2, verbose=0)
    steps = np.concatenate(list(rows.values())[-1])
    assert len(steps) == 2 * ROWS // BATCH
    assert set(steps["samples"].tolist()) == {BATCH}
    waited = steps["input"][1:]  # a run's first step has no parts
    assert np.all(waited > 0)
    assert np.all(waited < (steps["end"] - steps["begin"])[1:])


def test_a_tensor_lies_where_its_rows_were_gathered() -> None:
    array = aligned((8, 2), np.dtype("float32"))
    array[:] = 1
    tensor = tensor_of(array)
    array[0, 0] = 7
    assert tensor[0, 0] == 7


def test_memory_that_may_only_be_read_is_taken_over_and_never_written_to() -> None:
    mapped = mmap.mmap(-1, 4096 * 4)
    mapped.write(np.arange(4096, dtype=np.float32).tobytes())
    array = np.frombuffer(mapped, np.float32)
    array.flags.writeable = False
    tensor = tensor_of(array)
    shared = np.frombuffer(mapped, np.float32)
    shared[0] = 7
    assert tensor[0] == 7
    shared[0] = 0
    add = tf.function(lambda rows: tf.tensor_scatter_nd_add(rows, [[0]], [1.0]) + 1)
    assert add(tensor)[0] == 2
    del tensor
    assert add(tensor_of(array))[0] == 2  # nobody else holds that one: its memory might be reused
    assert array.tolist() == list(range(4096))


def ones(array: np.ndarray) -> np.ndarray:
    """Fill memory that may hold anything, also what is equal to nothing."""
    array[...] = 1
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.frombuffer(b"0123456789abcdef" * 9, np.int32)[1:],
        np.array([b"some", b"text"]),
        np.array([b"other", b"text"], object),
        np.ones((4, 6), np.float32)[:, ::2],
        ones(aligned((3,), np.dtype("bool"))),
        ones(aligned((32,), np.dtype(tf.bfloat16.as_numpy_dtype))),
    ],
    ids=["begins anywhere", "fixed width", "objects", "with gaps", "bool", "bfloat16"],
)
def test_what_lies_otherwise_becomes_the_same_tensor(array: np.ndarray) -> None:
    assert np.array_equal(tensor_of(array).numpy().astype(array.dtype), array)


def place_of(tensor: tf.Tensor) -> int:
    """Return where a tensor's memory begins."""
    place: int = np.from_dlpack(tensor).ctypes.data
    return place


def test_many_columns_side_by_side_stay_where_they_lie_in_any_order() -> None:
    block = aligned((40, 16), np.dtype("int64"))
    block[:] = np.arange(40 * 16).reshape(40, 16)
    floats = aligned((20, 16, 2), np.dtype("float32"))
    floats[:] = np.arange(20 * 32).reshape(20, 16, 2)
    apart = np.arange(16)
    columns = [*block, *floats, apart, block[3], block[:, 2]]
    order = np.random.default_rng(0).permutation(len(columns)).tolist()
    assert sorted(adjacent_runs(columns[:60])) == [[*range(40)], [*range(40, 60)]]
    tensors = tensors_of([columns[place] for place in order])
    places = [column.ctypes.data for column in columns]
    del block, floats
    for tensor, place in zip(tensors, order, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), columns[place], strict=True)
        if place < 60:
            assert place_of(tensor) == places[place]
    # They hold the memory, each by itself.
    wanted = [column.copy() for column in columns]
    last = tensors[order.index(39)]
    del tensors, tensor, columns
    others = [aligned((40, 16), np.dtype("int64")) for _ in range(9)]
    for other in others:
        other[:] = -1
    np.testing.assert_array_equal(last.numpy(), wanted[39])


@pytest.mark.parametrize("rows", [1, 7, 16, 24])
def test_many_columns_that_do_not_follow_on_each_other_are_the_same(rows: int) -> None:
    block = aligned((30, 32), np.dtype("int32"))
    block[:] = np.arange(30 * 32).reshape(30, 32)
    columns = list(block[:, :rows])
    for column, tensor in zip(columns, tensors_of(columns), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), column, strict=True)
