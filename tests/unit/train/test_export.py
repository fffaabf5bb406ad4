"""`export`: what rank 0 wrote is served by plain Keras and TensorFlow, without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from waiting import PATIENCE_S

import eai_notebook as eai
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]

PLAIN = """
import importlib.util, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "eai_notebook":
            raise ImportError("not installed here")

sys.meta_path.insert(0, Refuse())
import keras, numpy as np, tensorflow as tf
arrays = dict(np.load(sys.argv[1]))
batch = {name: tf.constant(arrays[name]) for name in ("numbers", "ids")}
loaded = keras.models.load_model(sys.argv[2])
served = tf.saved_model.load(sys.argv[3])
found = [loaded.predict(batch, verbose=0), np.asarray(served.serve(batch))]
assert "eai_notebook" not in sys.modules
print(json.dumps([float(np.abs(each - arrays["clicks"]).max()) for each in found]))
"""


@pytest.mark.slow
@pytest.mark.ranks
def test_a_trained_wide_deep_answers_where_this_package_is_not_installed(
    run_ranks: RunRanks, tmp_path: Path
) -> None:
    run_ranks(
        """
        import keras, numpy as np, pathlib
        import eai_notebook as eai
        rng = np.random.default_rng(eai.rank())
        x = {"numbers": rng.normal(size=(64, 13)).astype("float32"),
             "ids": rng.integers(0, 20, (64, 26)).astype("int32")}
        y = rng.integers(0, 2, (64, 1)).astype("float32")
        keras.utils.set_random_seed(0)
        model = eai.models.wide_deep(eai.io.CRITEO.with_buckets(20), hidden=(8,))
        model.compile(eai.DistributedOptimizer(eai.RoutedOptimizer({"wide/*": "ftrl"})),
                      "binary_crossentropy")
        eai.fit(model, (x, y), batch_size=32, epochs=2, verbose=0)
        file, folder = eai.export(model, "out/model.keras"), eai.export(model, "out/served")
        assert file.is_file() and folder.is_dir()
        if eai.rank() == 0:
            np.savez("seen.npz", **x, clicks=model.predict(x, verbose=0))
        report(sorted(path.name for path in pathlib.Path("out").iterdir()))
        """,
        2,
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.keras", "served"]
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    done = subprocess.run(
        [sys.executable, script, "seen.npz", "out/model.keras", "out/served"],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    from_file, from_folder = json.loads(done.stdout.splitlines()[-1])
    assert from_file < 1e-6
    assert from_folder < 1e-6


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(EaiError, match=r"model\.keras cannot be written"):
        eai.export(model, tmp_path / "file" / "model.keras")
    with pytest.raises(EaiError, match="has no weights yet"):
        eai.export(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "model.keras")


def test_the_training_can_go_on_after_an_export(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("sgd"), "mse")
    x = np.ones((4, 2), np.float32)
    model.fit(x, x[:, :1], verbose=0)
    eai.export(model, tmp_path / "model.keras")
    assert isinstance(model.optimizer, eai.DistributedOptimizer)
    model.fit(x, x[:, :1], verbose=0)
    assert int(model.optimizer.iterations) == 2
