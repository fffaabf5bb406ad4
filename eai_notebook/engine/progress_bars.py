"""Progress bars on a rank: as text, which the notebook shows once for all ranks."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

_WIDGETS = {
    "tqdm.autonotebook": {"tqdm": "tqdm", "trange": "trange"},
    "tqdm.notebook": {
        "tqdm": "tqdm",
        "trange": "trange",
        "tqdm_notebook": "tqdm",
        "tnrange": "trange",
    },
}


def install() -> None:
    """Have tqdm draw text from now on; its widgets would stay at 0 %, far from the notebook.

    tqdm is not loaded for that: who imports one of the two modules gets tqdm's own plain bars.
    """
    for name, plain in _WIDGETS.items():
        if name not in sys.modules:
            sys.modules[name] = _PlainBars(name, plain)


class _PlainBars(types.ModuleType):
    """Stands for a module of tqdm with widgets."""

    def __init__(self, name: str, plain: dict[str, str]) -> None:
        super().__init__(name)
        self.__dict__["_plain"] = plain

    def __getattr__(self, name: str) -> Any:
        plain = self.__dict__["_plain"]
        if name not in plain:
            message = f"module {self.__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(importlib.import_module("tqdm.std"), plain[name])
