from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from click_log_files import expected, row, row_number, write_log
from expected_errors import raises_code
from paths import TESTS
from waiting import wait_until

import eai_notebook as eai
from eai_notebook.clicklog.text_part import TextPart
from eai_notebook.errors import EaiError
from eai_notebook.io import criteo
from eai_notebook.io.pipeline import byte_ranges, epoch_plan

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.io import InputData


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few hundred rows be many chunks and several shuffle windows."""
    monkeypatch.setattr(byte_ranges.cut, "__defaults__", (2000,))
    monkeypatch.setattr(epoch_plan, "SHUFFLE_WINDOW", 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_log(tmp_path / "train-0.tsv", range(300))
    write_log(tmp_path / "train-1.tsv", range(300, 400), end="")
    return tmp_path


def numbers_of(data: InputData) -> list[int]:
    return [row_number(value) for x, _ in data for value in x["numbers"][:, 0].numpy().tolist()]


def tiny_model() -> keras.Model:
    inputs = {
        "numbers": keras.Input((13,), name="numbers"),
        "ids": keras.Input((26,), name="ids", dtype="int32"),
    }
    output = keras.layers.Dense(1, activation="sigmoid", name="out")(inputs["numbers"])
    model = keras.Model(inputs, output)
    model.compile("sgd", "binary_crossentropy")
    return model


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.usefixtures("small_chunks")
def test_batches_are_the_rows_of_the_files_in_order(folder: Path) -> None:
    data = criteo(folder, 64, shuffle=False, shard=False)
    features, labels = zip(*data, strict=True)
    assert [len(part) for part in labels] == [64] * 6 + [16]
    wanted = [expected(row(number)) for number in range(400)]
    np.testing.assert_array_equal(np.concatenate(labels)[:, 0], [one[0] for one in wanted])
    numbers = np.concatenate([part["numbers"] for part in features])
    np.testing.assert_allclose(numbers, [one[1] for one in wanted], rtol=1e-6)
    ids = np.concatenate([part["ids"] for part in features])
    np.testing.assert_array_equal(ids, [one[2] for one in wanted])


@pytest.mark.usefixtures("small_chunks")
def test_shuffle_repeats_for_a_seed_and_changes_by_epoch(folder: Path) -> None:
    data = criteo(folder, 10, seed=7)
    first, second = numbers_of(data), numbers_of(data)
    assert sorted(first) == sorted(second) == list(range(400))
    assert first != second
    again = criteo(folder, 10, seed=7)
    assert numbers_of(again) == first
    assert numbers_of(again) == second
    assert numbers_of(criteo(folder, 10, seed=8)) != first
    again.epoch = 0
    assert numbers_of(again) == first
    # Mixed through and through: neighbours in a file do not stay neighbours.
    # (By chance one in 18 does in a window of 32 rows, one in four in a chunk of 8.)
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.1


def test_rows_that_fill_no_batch_are_dropped_counted_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = criteo(folder, 64)
    assert (data.rows, data.steps_per_epoch, data.dropped_rows) == (400, 6, 16)
    assert capsys.readouterr().out.startswith("16 of 400 rows do not fill a batch")
    left_out = [set(range(400)) - set(numbers_of(data)) for _ in range(2)]
    assert [len(rows) for rows in left_out] == [16, 16]
    assert left_out[0] != left_out[1]


def test_keras_trains_evaluates_and_predicts_on_it(folder: Path) -> None:
    model = tiny_model()
    data = criteo(folder, 50)
    history = model.fit(data, epochs=3, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 3
    assert int(model.optimizer.iterations.numpy()) == 3 * 8
    whole = criteo(folder, 150, shuffle=False, shard=False)
    assert model.predict(whole, verbose=0).shape == (400, 1)
    assert model.evaluate(whole, verbose=0) > 0
    assert data.epoch == 3  # the batch Keras looked at beforehand began no epoch


def test_dataset_methods_work(folder: Path) -> None:
    data = criteo(folder, 50, shuffle=False)
    doubled = list(data.repeat(2).map(lambda x, _: x["numbers"][:, 0]).prefetch(2))
    assert len(doubled) == 16
    assert [row_number(value) for value in np.concatenate(doubled)] == [*range(400)] * 2
    assert int(data.cardinality()) == data.steps_per_epoch == 8


def test_data_is_reported_in_one_line(folder: Path) -> None:
    assert repr(criteo(folder, 50)) == "<Criteo data of rank 0: 400 rows, 8 steps of 50>"


def spoil(path: Path, number: int, text: str) -> None:
    """Replace row `number` (from 1) of `path`."""
    lines = path.read_text().split("\n")
    lines[number - 1] = text
    path.write_text("\n".join(lines))


SHORT = "\t".join(row(1).split("\t")[:39])


@pytest.mark.usefixtures("small_chunks")
def test_bad_row_is_named_by_file_row_and_remedy(folder: Path) -> None:
    spoil(folder / "train-0.tsv", 217, SHORT)
    data = criteo(folder, 50)
    with raises_code(
        "row-bad", f"{folder / 'train-0.tsv'} row 217", "39", "40", 'on_error="skip"'
    ) as caught:
        list(data)
    assert data.error is caught.value


def test_error_ends_fit_and_is_kept(folder: Path) -> None:
    spoil(folder / "train-0.tsv", 3, SHORT)
    data = criteo(folder, 50)
    with pytest.raises(Exception, match="row 3 has 39 fields"):
        tiny_model().fit(data, shuffle=False, verbose=0)
    assert isinstance(data.error, EaiError)
    spoil(folder / "train-0.tsv", 3, row(2))
    data = criteo(folder, 50)
    tiny_model().fit(data, shuffle=False, verbose=0)
    assert data.error is None


def test_error_comes_out_of_a_measured_fit_as_it_is(folder: Path) -> None:
    spoil(folder / "train-0.tsv", 3, SHORT)
    data = criteo(folder, 50)
    with raises_code("row-bad", "row 3", "39 fields"):
        eai.fit(tiny_model(), data, verbose=0)
    with raises_code("row-bad", "row 3", "39 fields"):
        tiny_model().fit(data, shuffle=False, verbose=0, callbacks=eai.callbacks())


@pytest.mark.usefixtures("small_chunks")
def test_bad_rows_can_be_skipped_and_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder / "train-0.tsv", 217, SHORT)
    spoil(folder / "train-0.tsv", 1, "nonsense")
    spoil(folder / "train-1.tsv", 100, row(399)[:-2])  # the last line, cut off
    data = criteo(folder, 397, on_error="skip")
    assert data.skipped == {}  # nothing is read beforehand
    assert sorted(numbers_of(data)) == sorted(set(range(400)) - {0, 216, 399})
    assert data.skipped == {
        str(folder / "train-0.tsv"): 2,
        str(folder / "train-1.tsv"): 1,
    }
    assert "train-0.tsv: 2 bad rows skipped" in capsys.readouterr().out
    assert sorted(numbers_of(data)) == sorted(set(range(400)) - {0, 216, 399})
    assert capsys.readouterr().out == ""  # the same again is not news
    assert sum(data.skipped.values()) == 3


def test_all_rows_bad_is_an_error_even_when_skipping(folder: Path) -> None:
    (folder / "train-0.tsv").write_text("a,b,c\n" * 20)
    with raises_code("too-many-bad-rows", "20 rows", "1 field"):
        list(criteo(folder / "train-0.tsv", 2, on_error="skip", max_skipped=1))


@pytest.mark.parametrize("cut", [-3, -9, -26])
def test_cut_off_last_line_is_an_error(folder: Path, cut: int) -> None:
    # Ends in the middle of a value, right after a tab, and fields earlier.
    whole = row(99)
    assert whole[-9] == "\t"
    (folder / "cut.tsv").write_text(row(1) + "\n" + (whole[:cut] if cut != -9 else whole[:-8]))
    with raises_code("row-bad", "cut.tsv row 2", "copy the file again"):
        list(criteo(folder / "cut.tsv", 2))


def test_file_that_changes_under_way_is_an_error_not_a_short_epoch(folder: Path) -> None:
    data = criteo(folder / "train-0.tsv", 50)
    lines = (folder / "train-0.tsv").read_text()
    (folder / "train-0.tsv").write_text(lines.replace("\n", "\t", 1))
    with raises_code("file-changed", "train-0.tsv"):
        list(data)
    os.truncate(folder / "train-0.tsv", 1000)
    with raises_code("file-changed", "train-0.tsv"):
        list(data)
    (folder / "train-0.tsv").unlink()
    with raises_code("storage-failed", "train-0.tsv"):
        list(data)


@pytest.mark.parametrize(
    ("options", "code", "facts"),
    [
        ({"batch_size": 0}, "option-invalid", ["batch_size", "0"]),
        ({"batch_size": 401}, "too-few-rows", ["rank 0", "400 rows", "2 files", "401"]),
        ({"batch_size": 4, "on_error": "ignore"}, "option-invalid", ["on_error", "'ignore'"]),
    ],
)
def test_wrong_options_are_refused(
    folder: Path, options: dict[str, Any], code: str, facts: list[str]
) -> None:
    with raises_code(code, *facts):
        criteo(folder, **options)


def readers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("eai-input", "eai-read"))]


def test_loop_left_early_leaves_no_thread(folder: Path) -> None:
    data = criteo(folder, 2)
    for _ in range(3):
        for _batch in data:
            break
    gc.collect()
    assert wait_until(lambda: not readers())
    assert len(list(data)) == 200  # and the next loop is whole


def test_an_epoch_fetches_each_part_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    usual = TextPart.fetch

    def noted(part: TextPart) -> Any:
        fetched.append(part.name)
        return usual(part)

    monkeypatch.setattr(TextPart, "fetch", noted)
    for size in (50, 60):  # what is left over is not filled up from a second lap
        fetched.clear()
        data = criteo(folder, size)
        assert len(list(data)) == 400 // size
        assert sorted(fetched) == sorted(part.name for part in data.plan.source.parts)


def test_second_loop_at_once_is_refused_clearly(folder: Path) -> None:
    data = criteo(folder, 2)
    first, second = iter(data), iter(data)
    next(first)
    next(second)
    with raises_code("loop-over"):
        next(first)
    assert len(list(second)) == 199


def test_reader_cost_is_counted(folder: Path) -> None:
    data = criteo(folder, 10)
    assert data.cpu_seconds == 0
    list(data)
    assert data.cpu_seconds > 0


@pytest.mark.ranks
def test_ranks_share_the_rows_and_agree_on_the_steps(folder: Path, run_ranks: Any) -> None:
    script = f"""
    import eai_notebook as eai
    from click_log_files import row_number
    data = eai.io.criteo({str(folder)!r}, 30, seed=1)
    seen = [row_number(v) for x, _ in data for v in x["numbers"][:, 0].numpy().tolist()]
    whole = eai.io.criteo({str(folder)!r}, 100, shard=False)
    report([eai.rank(), eai.size(), data.rows, data.steps_per_epoch, data.dropped_rows, seen,
            whole.rows])
    """
    path = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    import textwrap

    results = run_ranks(path + textwrap.dedent(script), 3)
    ranks, sizes, rows, steps, dropped, seen, whole = zip(*results, strict=True)
    assert ranks == (0, 1, 2)
    assert sizes == (3, 3, 3)
    assert sum(rows) == 400
    assert steps == (min(rows) // 30,) * 3
    assert dropped == tuple(count - steps[0] * 30 for count in rows)
    assert max(Counter(number for part in seen for number in part).values()) == 1
    assert [len(part) for part in seen] == [steps[0] * 30] * 3
    assert whole == (400,) * 3


@pytest.mark.ranks
def test_ranks_with_uneven_rows_take_equal_steps(tmp_path: Path, run_ranks: Any) -> None:
    # Equal bytes, unequal rows: the first half of the file has short rows.
    short = "\t".join(["0", "1", *[""] * 38])
    lines = [short] * 2000 + [row(number) for number in range(500)]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n")
    script = f"""
    import eai_notebook as eai
    data = eai.io.criteo({str(tmp_path / "log.tsv")!r}, 50)
    report([data.rows, data.steps_per_epoch, sum(1 for _ in data)])
    """
    results = run_ranks(script, 2)
    assert sum(result[0] for result in results) == 2500
    assert results[0][0] > 2 * results[1][0]
    assert results[0][1:] == results[1][1:] == [results[1][0] // 50] * 2
