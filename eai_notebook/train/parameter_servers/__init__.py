"""Training on parameter servers, to compare with the ring: the weights live on servers.

`start` turns the ranks of a group into tasks of TensorFlow's own
`ParameterServerStrategy`; from then on `eai.fit` trains there. Names are loaded when first
used, so that asking whether there are servers costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eai_notebook.train.parameter_servers.server_tasks import ParameterServers, current, start

__all__ = ["ParameterServers", "current", "start"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.cluster"), name)
