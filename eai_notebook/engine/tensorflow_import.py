"""TensorFlow's import at half of its usual cost: no garbage collection, no matplotlib, no sklearn.

It is most of what a start of ranks costs. A quarter of it is Python's garbage collector, which
looks through a million new objects, all of which stay, again and again. A third is what two of
Keras's modules import for tasks that few programs have: ``keras.wrappers`` scikit-learn with
scipy's statistics, ``keras.visualization`` matplotlib and OpenCV. Their code runs when a name of
theirs is first asked for.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

DEFERRED: Final = frozenset({"keras.visualization", "keras.src.visualization", "keras.wrappers"})
"""Modules that run when they are first used; what they import is used by nothing else of Keras."""


def import_tensorflow() -> None:
    """Import TensorFlow and Keras, unless they are imported already.

    The objects made so far are not looked through by later collections either, which a step would
    wait for: a full one takes a third of a second after TensorFlow's import.

    >>> import_tensorflow()
    >>> import keras
    >>> callable(keras.wrappers.SKLearnClassifier)  # imports scikit-learn, if it is there
    True
    """
    if "tensorflow" in sys.modules:
        return
    with _no_collection(), _deferred_modules():
        import tensorflow as tf  # noqa: F401  which imports Keras


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage in the block, and nothing of what is there at its end ever."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def _deferred_modules() -> Iterator[None]:
    """Defer the modules in `DEFERRED` that are imported in the block."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules to defer where they usually are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the usual specification with a loader that waits; None for other modules."""
        if fullname not in DEFERRED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferred(spec.loader)
        return spec


class _Deferred(importlib.abc.Loader):
    """Runs a module when one of its names is asked for.

    ``importlib.util.LazyLoader`` would run it for ``__file__``, too, which ``inspect`` asks of every
    module: TensorFlow's first trace of a function would run all of them.
    """

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader
        self._lock = threading.RLock()
        self._runs = False

    def exec_module(self, module: ModuleType) -> None:
        """Have the module run later, and look until then as if it had."""
        assert module.__spec__ is not None  # noqa: S101  the import system has set it
        module.__loader__ = module.__spec__.loader = self._loader
        names = vars(module)

        def find(name: str) -> Any:
            if name.startswith("__") and name != "__all__":
                raise AttributeError(name)
            with self._lock:
                if names.get("__getattr__") is find and not self._runs:
                    self._run(module)
                    for hook, own in stand_ins.items():
                        if names.get(hook) is own:
                            del names[hook]
            try:
                return names[name]
            except KeyError:
                message = f"module {module.__name__!r} has no attribute {name!r}"
                raise AttributeError(message) from None

        def list_names() -> list[str]:
            with contextlib.suppress(AttributeError):
                find("__all__")
            return sorted(names)

        stand_ins: dict[str, Any] = {"__getattr__": find, "__dir__": list_names}
        names.update(stand_ins)

    def _run(self, module: ModuleType) -> None:
        """Run the module; a failure is the caller's, and the next one to ask tries again."""
        self._runs = True
        try:
            self._loader.exec_module(module)
        finally:
            self._runs = False
