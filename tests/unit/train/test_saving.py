"""Saving with Keras's own functions on several ranks: one file, whole, and nobody hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from paths import RANKS
from waiting import PATIENCE_S

import eai_notebook as eai
from eai_notebook import keras_names

RunRanks = Callable[..., list[Any]]


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "rounds"), [(2, 2), pytest.param(20, 6, marks=pytest.mark.drill)]
)
def test_what_all_ranks_save_is_written_once_and_whole(
    run_ranks: RunRanks, layers: int, rounds: int
) -> None:
    program = (RANKS / "saving.py").read_text()
    reports = run_ranks(f"LAYERS, ROUNDS = {layers}, {rounds}\n{program}", n=2)
    for report in reports:
        assert report["bad"] == []
        assert report["epochs"] == [0, 1]
        assert report["chosen"]
        assert not [name for name in report["files"] if "part" in name]
        assert {"m.keras", "m.weights.h5", "other.keras", "best.keras"} <= set(report["files"])
    assert reports[1]["failed"] != ""
    assert reports[0]["failed"] != ""


def test_every_class_that_keras_may_look_for_is_known_by_name() -> None:
    decorated = re.compile(r"register_keras_serializable\(package=.*\)\nclass (\w+)")
    package = Path(eai.__file__).parent
    found = {name for path in package.rglob("*.py") for name in decorated.findall(path.read_text())}
    assert found == set(keras_names.HOMES)
    for name in found:
        assert keras_names.Later(name).load().__name__ == name


LOAD = "import keras, sys{}; keras.models.load_model(sys.argv[1])"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a trained model that was compiled with our optimizer."""
    file = tmp_path_factory.mktemp("saved") / "m.keras"
    wrapped(file)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("first", ["; import eai_notebook", "; import eai_notebook as eai"])
def test_a_model_compiled_with_ours_loads_where_we_are_installed(saved: Path, first: str) -> None:
    assert load(saved, first).returncode == 0


@pytest.mark.slow
def test_keras_may_be_imported_first(saved: Path) -> None:
    code = "import eai_notebook, keras, sys; keras.models.load_model(sys.argv[1])"
    assert run(code, saved).returncode == 0


@pytest.mark.slow
def test_an_exported_model_loads_anywhere(tmp_path: Path) -> None:
    model = wrapped(tmp_path / "m.keras")
    file = eai.export(model, tmp_path / "plain.keras")
    assert load(file, "").returncode == 0


def wrapped(file: Path) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("adam"), "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    model.save(file)
    return model


def load(file: Path, first: str) -> subprocess.CompletedProcess[str]:
    return run(LOAD.format(first), file)


def run(code: str, file: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done
