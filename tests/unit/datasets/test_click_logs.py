from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from expected_errors import raises_code

from eai_notebook.datasets.click_logs import Truth, criteo, file_names
from eai_notebook.datasets.click_model import MISSING, PlantedModel
from eai_notebook.datasets.click_recipes import RULES
from eai_notebook.metrics import auc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in [("one", 3), ("two", 3), ("other", 4)]:
        criteo(tmp_path / name, 1000, 9, seed)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert all(one[name] != other[name] for name in file_names(9))
    drawn, others = (PlantedModel(seed).draw(0, 100).integers for seed in (3, 4))
    assert not np.array_equal(drawn, others)


def test_recipes_give_other_data_and_are_kept_apart(tmp_path: Path) -> None:
    logs = criteo(tmp_path / "logs", 1000, 9, 3)
    rules = criteo(tmp_path / "rules", 1000, 9, 3, recipe="rules")
    assert (logs.recipe, rules.recipe) == ("logs", "rules")
    assert contents(tmp_path / "logs")["train-0.tsv"] != contents(tmp_path / "rules")["train-0.tsv"]
    with raises_code("folder-not-empty", tmp_path / "rules"):
        criteo(tmp_path / "rules", 1000, 9, 3)
    with raises_code("option-invalid", "'rueles'", "logs, rules"):
        criteo(tmp_path / "other", 1000, 9, recipe="rueles")


def test_rules_hide_combinations_from_single_columns() -> None:
    """The best score by a pair's combination beats the best by its two columns apart."""
    model = PlantedModel(0, RULES)
    batch = model.draw(0, 200_000)
    left, right = RULES.combined[0]
    logits = np.log(batch.probabilities / (1 - batch.probabilities))

    def means(groups: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = np.bincount(groups)
        return (np.bincount(groups, logits) / np.maximum(counts, 1))[groups]

    def number(column: int) -> NDArray[np.int64]:
        values = np.where(batch.missing[:, column], 0, batch.values[:, column])
        return np.unique(values, return_inverse=True)[1].astype(np.int64)

    both = means(number(left) * 100 + number(right))
    apart = means(number(left)) + means(number(right))
    assert np.var(logits - both) < np.var(logits - apart) - 0.25 * RULES.combined_size**2


def test_files_hold_criteo_rows(tmp_path: Path) -> None:
    criteo(tmp_path / "data", 4003, 8)
    assert sorted(path.name for path in (tmp_path / "data").glob("*.tsv")) == sorted(file_names(8))
    lines = [
        line.split("\t")
        for name in file_names(8)
        for line in (tmp_path / "data" / name).read_text().splitlines()
    ]
    assert len(lines) == 4003
    assert {len(fields) for fields in lines} == {40}
    assert {fields[0] for fields in lines} == {"0", "1"}
    integers = [text for fields in lines for text in fields[1:14]]
    assert "" in integers
    values = [int(text) for text in integers if text]
    assert min(values) == -3
    assert max(values) > 100 * np.median(values)  # heavy tailed
    names = [text for fields in lines for text in fields[14:]]
    assert "" in names
    assert {len(text) for text in names} == {0, 8}
    assert set("".join(names)) == set("0123456789abcdef")


def test_text_says_what_was_drawn(tmp_path: Path) -> None:
    criteo(tmp_path / "data", 600, 2, seed=5)
    batch = PlantedModel(5).draw(1, 300)
    lines = (tmp_path / "data" / "train-1.tsv").read_text().splitlines()
    for number, line in enumerate(lines):
        fields = line.split("\t")
        assert int(fields[0]) == batch.labels[number]
        integers = [int(text) if text else MISSING for text in fields[1:14]]
        assert integers == batch.integers[number].tolist()
        names = [int(text, 16) if text else None for text in fields[14:]]
        drawn = zip(batch.values[number].tolist(), batch.missing[number], strict=True)
        assert names == [None if missing else value for value, missing in drawn]


def test_truth_is_that_of_the_rows_written(tmp_path: Path) -> None:
    truth = criteo(tmp_path / "data", 20_000, 16, seed=1)
    assert Truth.load(tmp_path / "data") == truth
    model = PlantedModel(1)
    parts = [model.draw(part, 1250) for part in range(16)]
    labels = np.concatenate([part.labels for part in parts])
    chances = np.concatenate([part.probabilities for part in parts])
    assert truth.ctr == labels.mean()
    assert truth.bayes_auc == pytest.approx(auc(labels, chances), abs=1e-6)
    assert truth.bayes_auc_test == pytest.approx(auc(labels[-2500:], chances[-2500:]), abs=1e-6)
    assert (truth.test_files, truth.test_rows) == (2, 2500)
    assert 0.2 < truth.ctr < 0.3
    # The probabilities are those the clicks were drawn with: no score ranks better.
    noisy = chances * np.random.default_rng(0).uniform(0.7, 1.3, len(chances))
    assert auc(labels, noisy) < auc(labels, chances)
    assert labels.mean() == pytest.approx(chances.mean(), abs=0.01)


def test_popular_values_are_frequent_and_rare_ones_exist() -> None:
    values = PlantedModel(0).draw(0, 20_000).values[:, 6]
    counts = np.sort(np.unique(values, return_counts=True)[1])[::-1]
    assert counts[0] > 2000
    assert np.sum(counts == 1) > 500


def test_progress_counts_every_row(tmp_path: Path) -> None:
    counts: list[int] = []
    criteo(tmp_path / "data", 1000, 3, progress=counts.append)
    assert counts == [333, 333, 334]


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: int) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        criteo(tmp_path / "data", 1000, 4, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_there_is_kept(tmp_path: Path) -> None:
    first = criteo(tmp_path / "data", 500, 2)
    written = (tmp_path / "data" / "train-0.tsv").stat().st_mtime_ns
    assert criteo(tmp_path / "data", 500, 2) == first
    assert (tmp_path / "data" / "train-0.tsv").stat().st_mtime_ns == written


def test_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    criteo(tmp_path / "data", 500, 2)
    before = contents(tmp_path / "data")
    with raises_code("folder-not-empty", tmp_path / "data"):
        criteo(tmp_path / "data", 500, 2, seed=1)
    assert contents(tmp_path / "data") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train-0.tsv").write_text("mine")
    with raises_code("folder-not-empty", tmp_path / "mine"):
        criteo(tmp_path / "mine", 500, 2)


@pytest.mark.parametrize(("rows", "files", "seed"), [(0, 1, 0), (3, 4, 0), (5, 0, 0), (5, 1, -1)])
def test_senseless_numbers_are_refused(tmp_path: Path, rows: int, files: int, seed: int) -> None:
    with raises_code("option-invalid"):
        criteo(tmp_path / "data", rows, files, seed)
    assert list(tmp_path.iterdir()) == []


def test_a_target_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises_code("folder-not-writable", tmp_path / "file"):
        criteo(tmp_path / "file" / "data", 100, 2)


def test_broken_truth_is_named(tmp_path: Path) -> None:
    with raises_code("truth-unreadable", tmp_path / "truth.json"):
        Truth.load(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps({"seed": 1}))
    with raises_code("truth-unreadable", tmp_path / "truth.json"):
        Truth.load(tmp_path)
