"""The classes of this package that Keras finds by name in a saved model, loaded when one needs them.

A ``.keras`` file names the classes that it is made of, and Keras looks a name up among those
that were registered. Ours register themselves where they are defined, which is loaded only
when it is first used: a program that does nothing but ``import eai_notebook`` and load a model
would not have them. So what stands for them is registered as soon as there is a Keras.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

KERAS: Final = "keras"
PACKAGE: Final = "eai_notebook"
HOMES: Final = {
    "DistributedOptimizer": "train.optimizer",
    "RoutedOptimizer": "train.routed_optimizer",
    "ShardedEmbedding": "train.sharded.sharded_embedding",
    "RandomView": "models.augment",
    "SmoothedCrossentropy": "models.image_recipe",
    "SyncBatchNormalization": "models.batch_norm",
    "WarmupSteps": "schedules.curves",
}


class Later:
    """Stands for a class of ours until Keras makes something of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self) -> Any:
        """Return the class; loading it registers it in the place of this."""
        return getattr(importlib.import_module(f"{PACKAGE}.{HOMES[self._name]}"), self._name)

    def from_config(self, config: dict[str, Any]) -> Any:
        """Make what `config` says, as Keras asks a class to."""
        return self.load().from_config(config)


def register() -> None:
    """Register our names now if Keras is loaded, else as soon as it is."""
    if KERAS in sys.modules:
        _put()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _put() -> None:
    # Nothing that goes wrong with names may keep anybody from importing Keras.
    with contextlib.suppress(Exception):
        known = sys.modules[KERAS].saving.get_custom_objects()
        for name in HOMES:
            known.setdefault(f"{PACKAGE}>{name}", Later(name))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras as everybody else does, once, to know when it is loaded."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the interface
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != KERAS:
            return None
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads Keras by its own loader, and registers our names."""

    def __init__(self, usual: importlib.abc.Loader) -> None:
        self._usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._usual
        self._usual.exec_module(module)
        _put()
