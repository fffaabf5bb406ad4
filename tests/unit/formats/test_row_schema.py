"""Seams of file formats: a reader and a schema from outside of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extension import install
from paths import REPOSITORY

import eai_notebook as eai
from eai_notebook.formats.plain_table import PlainTable

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader

READ = """
import sys, eai_notebook as eai
data = eai.io.jsonl(sys.argv[1], batch_size=3, shuffle=False)
for features, label in data:
    print(features["x"].numpy().ravel().tolist(), label.numpy().ravel().tolist())
"""


@pytest.mark.slow
def test_a_reader_from_another_package_is_found_by_its_name(tmp_path: Path) -> None:
    target = install("jsonl_reader", tmp_path / "installed")
    lines = [json.dumps({"x": row, "label": row % 2}) for row in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "*.jsonl")],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{target}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "[0.0, 1.0, 2.0] [0.0, 1.0, 0.0]",
        "[3.0, 4.0, 5.0] [1.0, 0.0, 1.0]",
    ]


def test_a_name_that_no_package_adds_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="avro"):
        _ = eai.io.avro


class Doubled:
    """A schema of another package: one column, twice as large."""

    name = "doubled"

    def table_reader(self, label: str) -> TableReader:
        return _Reader({"x": ("float32", ())}, label)  # type: ignore[return-value]

    def example_reader(self, label: str) -> ExampleReader:
        raise NotImplementedError


class _Reader:
    def __init__(self, _columns: object, label: str) -> None:
        first = pa.schema([("x", pa.float32()), (label, pa.float32())])
        self._plain = PlainTable.of(["x"], label, None, first, None, None)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._plain, name)

    def read(self, table: pa.Table, numbers: dict[str, np.ndarray]) -> object:
        loaded = self._plain.read(table, numbers)
        loaded.columns["x"] = loaded.columns["x"] * 2
        return loaded


def test_a_schema_makes_its_own_reader(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(4, dtype="f4"), "label": np.ones(4, "f4")})
    pq.write_table(table, tmp_path / "a.parquet")
    data = eai.io.parquet(tmp_path / "a.parquet", 4, schema=Doubled(), shuffle=False)
    features, _ = next(iter(data))
    assert features["x"].numpy().ravel().tolist() == [0.0, 2.0, 4.0, 6.0]
