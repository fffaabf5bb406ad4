from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click_log_files import row, row_number, write_log
from expected_errors import raises_code
from paths import TESTS
from typer.testing import CliRunner

from eai_notebook import io
from eai_notebook.cli import app
from eai_notebook.clicklog import columnar_writers
from eai_notebook.errors import EaiError
from eai_notebook.io import CRITEO

if TYPE_CHECKING:
    from pathlib import Path

FORMATS: tuple[Any, ...] = ("parquet", "arrow", "tfrecord", "binary")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(columnar_writers, "GROUP", 37)
    folder = tmp_path / "logs"
    folder.mkdir()
    write_log(folder / "a.tsv", range(300))
    write_log(folder / "b.tsv", range(300, 400), end="")
    return folder


def opened(to: str, folder: Path, batch_size: int, **options: Any) -> io.InputData:
    if to != "binary":
        options["schema"] = CRITEO
    data: io.InputData = getattr(io, to)(folder, batch_size, **options)
    return data


@pytest.mark.parametrize("to", FORMATS)
def test_features_are_those_of_the_text_bit_by_bit(to: Any, logs: Path, tmp_path: Path) -> None:
    said: list[float] = []
    done = io.convert(logs, tmp_path / to, to=to, progress=lambda share, _: said.append(share))
    assert (done.rows, done.files, done.skipped) == (400, 2, {})
    assert done.size == sum(path.stat().st_size for path in (tmp_path / to).iterdir())
    assert said == sorted(said)
    assert said[-1] == 1
    for options in ({"shuffle": False}, {"seed": 3}):
        ours = list(opened(to, tmp_path / to, 64, shard=False, **options))
        text = list(io.criteo(logs, 64, shard=False, shuffle=False))
        if options == {"shuffle": False}:
            for (x, y), (wanted, label) in zip(ours, text, strict=True):
                np.testing.assert_array_equal(x["numbers"], wanted["numbers"], strict=True)
                np.testing.assert_array_equal(x["ids"], wanted["ids"], strict=True)
                np.testing.assert_array_equal(y, label, strict=True)
        else:
            numbers = [row_number(v) for x, _ in ours for v in x["numbers"][:, 0].numpy()]
            assert sorted(numbers) == list(range(400))
            assert numbers != sorted(numbers)


def test_a_folder_that_holds_something_is_left_alone(logs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    io.convert(logs, target)
    with raises_code("folder-not-empty", target, "overwrite=True"):
        io.convert(logs, target)
    io.convert(logs, target, to="arrow", overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["a.arrow", "b.arrow"]
    (target / "thesis.tex").write_text("years of work")
    with raises_code("folder-not-empty", target, "thesis.tex"):
        io.convert(logs, target, overwrite=True)
    assert (target / "thesis.tex").exists()
    with raises_code("option-invalid", "'csv'", "parquet"):
        io.convert(logs, target, to="csv")  # type: ignore[arg-type]


def test_a_conversion_that_fails_leaves_nothing(logs: Path, tmp_path: Path) -> None:
    with (logs / "b.tsv").open("a") as file:
        file.write("\nnonsense\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    with raises_code("row-bad", "b.tsv row 101", "1 field"):
        io.convert(logs, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    done = io.convert(logs, tmp_path / "out", on_error="skip")
    assert (done.rows, done.skipped) == (400, {str(logs / "b.tsv"): 1})


def test_integers_that_need_64_bits_get_them(tmp_path: Path) -> None:
    fields = row(1).split("\t")
    fields[1] = str(10**15)
    (tmp_path / "log.tsv").write_text("\n".join([row(0), "\t".join(fields)]) + "\n")
    io.convert(tmp_path / "log.tsv", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "log.parquet")
    assert table.column("I1").to_pylist() == [0, 10**15]
    assert str(table.schema.field("I2").type) == "int64"
    assert str(table.schema.field("C1").type) == "uint32"
    ours = next(iter(opened("parquet", tmp_path / "out", 2, shuffle=False)))
    text = next(iter(io.criteo(tmp_path / "log.tsv", 2, shuffle=False)))
    np.testing.assert_array_equal(ours[0]["numbers"], text[0]["numbers"])


def test_from_the_command_line(logs: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "out")
    said = CliRunner().invoke(app, ["convert", str(logs), target, "--to", "arrow"])
    assert said.exit_code == 0, said.output
    assert "400 rows in 2 files" in said.stdout
    again = CliRunner().invoke(app, ["convert", str(logs), target, "--to", "arrow"])
    assert isinstance(again.exception, EaiError)
    said = CliRunner().invoke(app, ["convert", str(logs), target, "--overwrite"])
    assert said.exit_code == 0, said.output


@pytest.mark.ranks
def test_ranks_read_every_row_exactly_once(logs: Path, tmp_path: Path, run_ranks: Any) -> None:
    for to in FORMATS:
        io.convert(logs, tmp_path / to, to=to)
    script = f"""
    import sys; sys.path.insert(0, {str(TESTS)!r})
    import numpy as np
    from click_log_files import row_number
    from eai_notebook import io
    import eai_notebook.formats.fixed_width
    import eai_notebook.formats.tfrecord.tfrecord_reader
    sys.modules["eai_notebook.formats.tfrecord.tfrecord_reader"].CHUNK = 5000
    sys.modules["eai_notebook.formats.fixed_width"].PART = 2000
    seen = {{}}
    for to in {FORMATS!r}:
        schema = {{}} if to == "binary" else {{"schema": io.CRITEO}}
        data = getattr(io, to)({str(tmp_path)!r} + "/" + to, 32, uneven="pad", **schema)
        rows, ids = [], 0
        for x, _, weight in data:
            kept = weight.numpy() > 0
            rows += [row_number(value) for value in x["numbers"].numpy()[kept, 0]]
            ids += int(x["ids"].numpy()[kept].sum(dtype=np.int64))
        seen[to] = [data.steps_per_epoch, len(data.plan.source.parts), rows, ids]
    report(seen)
    """
    results = run_ranks(textwrap.dedent(script), 3)
    text = np.concatenate([x["ids"] for x, _ in io.criteo(logs, 400, shard=False)])
    for to in FORMATS:
        steps, parts, rows, ids = zip(*(result[to] for result in results), strict=True)
        assert len(set(steps)) == 1, to
        assert min(parts) > 1, to
        assert Counter(one for part in rows for one in part) == Counter(range(400)), to
        assert sum(ids) == int(text.sum(dtype=np.int64)), to
        assert max(map(len, rows)) < 1.2 * min(map(len, rows)), to
