"""Parts of the ledger: the table, and parts of other packages from the step to every display."""

from __future__ import annotations

import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from extension import install
from paths import RANKS

from eai_notebook.ledger import parts
from eai_notebook.ledger.ledger_part import LedgerPart
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.run_record import RunRecord

if TYPE_CHECKING:
    from conftest import RunRanks

TRAINING = (RANKS / "train_with_a_section.py").read_text()


@pytest.mark.ranks
@pytest.mark.slow
def test_a_part_of_another_package_is_in_every_display(
    run_ranks: RunRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_TEST_PATH", str(install("augment_part", tmp_path / "installed")))
    (found,) = run_ranks(TRAINING, n=1)
    assert found["parts"][-2:] == ["augment", "other"]
    assert found["mean_ms"] >= 20
    assert found["sum_error"] < 1e-9
    assert found["style"]["colour"] == "#56B4E9"
    assert found["verdict"]["kind"] == "augment"
    assert "changes its batch in Python" in found["verdict"]["sentence"]
    assert found["verdict"]["tries"] == ["change batches in the dataset's `map`, in parallel"]
    assert found["late"][1:] == ["augment", 1]
    assert "\naugment " in found["report"]
    assert "fill='%2356B4E9'" in found["html"]
    assert "a augment" in found["text"]
    assert "augment" in found["spans"]
    assert "`augment` is 20.0 ms a step longer on rank 1" in found["slower"]

    # The record lists its columns. Where the part is not installed, its time is `other`.
    assert "augment" in found["columns"]
    record = RunRecord(Path(found["path"]))
    assert record.info.unknown_columns() == ["augment"]
    assert len(record.rows(0)) == 20
    said = report_record(record)
    assert "columns of parts that are not installed here: augment" in said.to_text()
    assert said.parts[parts.OTHER].mean >= 0.020


def part(name: str, letter: str = "z", colour: str = "#000000") -> LedgerPart:
    return LedgerPart(name, "", colour, letter, lambda steps: steps["collector"])


def test_other_stays_last_and_letters_differ() -> None:
    table = parts.joined([part("gc", letter="C"), part("cache", letter="C")])
    assert [each.name for each in table[-3:]] == ["gc", "cache", "other"]
    letters = [each.letter for each in table]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize(
    "bad",
    [part("compute"), part("not a name"), part("gc", colour="red")],
    ids=["name in use", "name", "colour"],
)
def test_a_malformed_part_is_left_out_and_named(
    bad: LedgerPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda _: bad)
    point = EntryPoint("bad", "some_package:PART", parts.GROUP)
    monkeypatch.setattr(parts, "entry_points", lambda group: [point])  # noqa: ARG005
    with pytest.warns(UserWarning, match="'bad' of some_package:PART is left out"):
        table = parts._load_all()
    assert table == parts.BUILT_IN


def test_the_table_loads_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parts._load_all() == parts.TABLE
    assert np.isin(parts.OWN, range(len(parts.PARTS))).all()
