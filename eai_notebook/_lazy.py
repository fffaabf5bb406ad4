"""Lazy attributes of a package: names are imported when first used.

The kernel imports the package and must not load TensorFlow; a rank needs only a few names.
`lazy_loader` does this for submodules; here a public name may be defined in another package.
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
        homes: The module that defines each public name, or None for a submodule of `package`.
        group: Entry-point group by which other packages add names; `homes` has priority.

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
