"""The process that passes signals on to a rank's engine: ipyparallel's, with the group's keys.

Run as ``python -m eai_notebook.cluster.nanny`` by the engine, which writes its settings to stdin.
"""

from __future__ import annotations

from typing import Any

import zmq
from ipyparallel.engine import nanny

from eai_notebook.cluster.keys import KeyPair, refuse_others, stop_refusing, use_for_all


class _CheckedContext(zmq.Context):  # type: ignore[type-arg]
    """A context that ends its check of keys before it ends."""

    def term(self) -> None:
        """Close the context."""
        stop_refusing(self)
        super().term()


class GroupNanny(nanny.KernelNanny):
    """ipyparallel's nanny; its engine alone may connect to it."""

    def __init__(self, **asked: Any) -> None:
        super().__init__(**asked)
        self._pair = KeyPair(self.curve_publickey, self.curve_secretkey)
        use_for_all(self._pair)

    async def start(self) -> None:
        """Connect to the controller, and listen for the engine, with the keys checked."""
        make = zmq.Context

        def checked(*arguments: Any, **settings: Any) -> Any:
            context = _CheckedContext(*arguments, **settings)
            refuse_others(context, self._pair)
            return context

        nanny.zmq.Context = checked
        try:
            await super().start()
        finally:
            nanny.zmq.Context = make


if __name__ == "__main__":
    nanny.KernelNanny = GroupNanny
    nanny.main()
