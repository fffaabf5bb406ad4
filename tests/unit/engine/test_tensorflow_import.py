"""TensorFlow's import without what few programs need, which is there when it is asked for."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from waiting import PATIENCE_S

from eai_notebook.engine import tensorflow_import

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import gc, inspect, sys
from eai_notebook.engine.tensorflow_import import import_tensorflow
assert "tensorflow" not in sys.modules
import_tensorflow()
frozen, collects = gc.get_freeze_count(), gc.isenabled()
import keras, numpy as np
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
inspect.getmodule(model)
heavy = [name for name in ("sklearn", "matplotlib", "scipy.stats", "cv2") if name in sys.modules]
print(collects, frozen > 100_000, heavy)
from keras.wrappers import SKLearnClassifier
print(SKLearnClassifier.__name__, keras.visualization.plot_image_gallery.__name__)
"""


def test_a_training_needs_neither_sklearn_nor_matplotlib() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    expected = ["True True []", "SKLearnClassifier plot_image_gallery"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.fixture
def deferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module `seldom_used` that is imported and has not run."""
    file = tmp_path / "seldom_used.py"
    file.write_text("import threading\n__all__ = ['value']\nvalue, other = object(), 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tensorflow_import, "DEFERRED", frozenset({"seldom_used"}))
    monkeypatch.delitem(sys.modules, "seldom_used", raising=False)
    with tensorflow_import._deferred_modules():
        importlib.import_module("seldom_used")
    return file


@pytest.mark.usefixtures("deferred")
def test_a_deferred_module_runs_when_a_name_is_asked_for() -> None:
    module = sys.modules["seldom_used"]
    assert module.__file__
    assert not hasattr(module, "__wrapped__")
    assert "value" not in vars(module)
    assert module.other == 2
    assert not {"__getattr__", "__dir__"} & set(vars(module))
    with pytest.raises(AttributeError, match=r"'seldom_used' has no attribute 'third'"):
        module.third  # noqa: B018  asked for


@pytest.mark.usefixtures("deferred")
def test_a_deferred_module_lists_its_names() -> None:
    assert {"value", "other"} <= set(dir(sys.modules["seldom_used"]))


@pytest.mark.usefixtures("deferred")
def test_all_names_of_a_deferred_module_can_be_imported() -> None:
    names: dict[str, object] = {}
    exec("from seldom_used import *", names)  # noqa: S102  a star import is allowed in a module only
    assert "value" in names
    assert "other" not in names


def test_a_deferred_module_that_fails_is_tried_again(deferred: Path) -> None:
    whole = deferred.read_text()
    module = sys.modules["seldom_used"]
    deferred.write_text("raise ImportError('not yet')")
    with pytest.raises(ImportError, match="not yet"):
        module.value  # noqa: B018  asked for
    deferred.write_text(whole + "\n")
    assert module.other == 2


def test_threads_wait_for_a_deferred_module_that_runs(deferred: Path) -> None:
    deferred.write_text(
        "import threading, sys\n"
        "began = sys.modules['__main__'].__dict__.setdefault('_began', [])\n"
        "began.append(1)\n"
        "threading.Event().wait(0.2)\n"
        "value = 7\n"
    )
    module = sys.modules["seldom_used"]
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 4
    assert sys.modules["__main__"].__dict__.pop("_began") == [1]


def test_an_import_that_fails_leaves_the_collector_and_the_importer_as_they_were() -> None:
    finders = list(sys.meta_path)
    with (
        pytest.raises(ZeroDivisionError),
        tensorflow_import._no_collection(),
        tensorflow_import._deferred_modules(),
    ):
        raise ZeroDivisionError
    assert gc.isenabled()
    assert sys.meta_path == finders
