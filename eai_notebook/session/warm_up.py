"""Warm up ranks in the background: load TensorFlow, collect their descriptions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.session.rank_sets import count_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group

_SAID_EVERY_S: Final = 0.5


class WarmUp:
    """A call on all ranks of a group, each of which returns its ``rank``, ``host`` and ``pid``.

    `words` say what the ranks are doing, where one has to wait for them.
    """

    def __init__(self, group: Group, words: str, call: Any, *arguments: Any) -> None:
        self._words = words
        self._size = len(group.live)
        self._request = group.view(group.live).apply_async(call, *arguments)

    def then(self, use: Callable[[list[dict[str, Any]]], None]) -> None:
        """Call `use` with the ranks' answers, in another thread, unless one fails."""

        def done(request: Any) -> None:
            if request.exception() is None:
                use(request.result())

        self._request.add_done_callback(done)

    def wait(self, say: Callable[..., None]) -> list[dict[str, Any]]:
        """Wait for all ranks' answers and return them; `say` announces the wait.

        Raises what the call has failed with on a rank.
        """
        begin, waited = time.monotonic(), False
        while not self._request.ready():
            waited = True
            say(f"{self._words}, {time.monotonic() - begin:.0f} s")
            self._request.wait(_SAID_EVERY_S)
        found: list[dict[str, Any]] = self._request.get()
        if waited:
            say(f"{count_ranks(self._size)} ready", final=True)
        return found
