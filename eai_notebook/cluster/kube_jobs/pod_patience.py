"""`PodPatience`: how long pods have waited for what they wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.kube_jobs.pod_states import PodState

WAIT_S: Final = 600.0
"""How long a pod may wait for a node, and to start there, if its user says nothing."""


class PodPatience:
    """Measures waits by what is waited for, from its first sight.

    A pod's words change while it waits for one thing: a pull that fails and one that is yet to be repeated have
    different reasons, and a message names the port or the delay of the last try. A time that began again with
    each of them would never be over.

    Args:
        clock: Returns the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def waited(self, pod: str, waits_for: str) -> float:
        """Return for how many seconds a pod has waited for something."""
        now = self._clock()
        return now - self._since.setdefault((pod, waits_for), now)

    def forget(self, pod: str, waits_for: str) -> None:
        """Begin again at the next sight."""
        self._since.pop((pod, waits_for), None)

    def is_over(self, state: PodState) -> bool:
        """Whether a pod has waited for longer than it may."""
        waited = self.waited(state.name, state.waits_for)
        return state.patience_s is not None and waited > state.patience_s
