"""Replies of the ranks that cannot be read end their request with an error.

ipyparallel unpickles a reply in its own thread. A failure there is logged, and a caller that waits for the
reply waits without end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ipyparallel import error as ipp_error

if TYPE_CHECKING:
    from collections.abc import Callable


def end_bad_replies(client: Any) -> None:
    """Have each request of `client` end, also one whose reply cannot be read."""
    handlers = client._queue_handlers  # noqa: SLF001  # the client has no public hook
    for kind, handler in handlers.items():
        handlers[kind] = partial(_handle, client, handler)


def _handle(client: Any, handler: Callable[[Any], None], message: Any) -> None:
    try:
        handler(message)
    except Exception as error:  # noqa: BLE001  # whatever a pickle raises
        failure = ipp_error.RemoteError(type(error).__name__, str(error), "")
        request = message["parent_header"]["msg_id"]
        client.results[request] = failure
        future = client._futures.get(request)  # noqa: SLF001
        if future is not None and not future.done():
            future.set_result(failure)
