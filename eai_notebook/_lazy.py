"""Lazy attributes of a package: a name is imported from its module when it is first used.

The kernel imports the package often and TensorFlow never; a rank imports it and needs a few names.
`lazy_loader` does this for a package's own submodules; here a public name may live in another room.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_attributes(
    package: str, homes: Mapping[str, str | None], group: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for the module `package`.

    Args:
        package: The module's ``__name__``.
        homes: For each public name the module that defines it, or None for a submodule of
            `package` itself.
        group: Entry points that other packages add names by; `homes` come first.

    Examples:
        >>> get, names = lazy_attributes("eai_notebook", {"auc": "eai_notebook.metrics"})
        >>> get("auc")([0, 1], [0.1, 0.9])
        1.0
    """

    def get(name: str) -> Any:
        if name not in homes:
            for point in entry_points(group=group, name=name) if group else ():
                return point.load()
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        home = homes[name]
        if home is None:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(home), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]).get("__all__", ()), *homes})

    return get, names
