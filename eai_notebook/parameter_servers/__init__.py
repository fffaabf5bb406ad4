"""Training with TensorFlow's parameter servers, to compare with the ring.

`start` turns the ranks of a group into tasks of `ParameterServerStrategy`; from then on `eai.fit`
trains there. Names are imported when first used, so checking for servers is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook._lazy import lazy_attributes

if TYPE_CHECKING:
    from eai_notebook.parameter_servers.server_tasks import ParameterServers, current, start

__all__ = ["ParameterServers", "current", "start"]

_HOMES: Final = dict.fromkeys(__all__, "eai_notebook.parameter_servers.server_tasks")

__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
