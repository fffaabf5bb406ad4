"""`NotebookState`: how the job of a notebook is, by its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import OURS, BatchState
from eai_notebook.cluster.kube_jobs.pod_patience import PodPatience
from eai_notebook.cluster.kube_jobs.pod_states import NODE, pod_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.cluster.kube_jobs.kube_api import KubeApi

KEPT_S: Final = 3600
"""How long a job that has ended stays, so that its end can be read."""
SUSPENDED = BatchState("suspended by its queue", is_queued=True)
DELETED = BatchState("gone", is_over=True, end="was deleted")


class NotebookState:
    """Follows one job.

    Args:
        wait_s: How long its pods may take to start on their nodes, in seconds.
        runs_it: Returns whether a pod is the one that runs the notebook.
    """

    def __init__(self, wait_s: float, runs_it: Callable[[dict[str, Any]], bool]) -> None:
        self._wait_s = wait_s
        self._runs_it = runs_it
        self._patience = PodPatience()

    def look(self, api: KubeApi, name: str, pods: Sequence[dict[str, Any]]) -> BatchState:
        """Return the state of the job `name`, which is not over, with these pods."""
        states = [(pod_state(pod, self._wait_s), self._runs_it(pod)) for pod in pods]
        running = next((each for each, runs_it in states if runs_it and each.is_running), None)
        if running is not None:
            return BatchState(f"running in pod {running.name}")
        waiting = [each for each, _ in states if not each.ended and not each.is_running]
        if not waiting:
            return BatchState(api.last_warning(name) or "waits for its pod", is_queued=True)
        words = "; ".join(dict.fromkeys(each.words for each in waiting))
        for each in waiting:
            # For a node it waits as long as it takes, as in any queue.
            if each.waits_for != NODE and self._patience.is_over(each):
                more = api.last_warning(each.name) if each.asks == "warning" else ""
                found = f"{each.words} ({more})" if more else each.words
                return BatchState(words, is_queued=True, obstacle=f"{found}: {each.remedy}")
        return BatchState(words, is_queued=True)

    def ended(
        self, api: KubeApi, pods: Sequence[dict[str, Any]], *, by_itself: bool, message: str
    ) -> BatchState:
        """Return the end of a job: with the last words of its pod, if it wrote none to the job's output."""
        mine = [pod["metadata"]["name"] for pod in pods if self._runs_it(pod)]
        said = api.last_line(mine[-1]) if mine else ""
        if by_itself and not said:
            return BatchState("ended", is_over=True)
        words = (said or message.strip()).removeprefix(OURS)
        return BatchState("ended", is_over=True, end=f"ended: {words}" if words else "ended")


def true_conditions(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what holds of a job, as the API describes it, by the type of the condition.

    Examples:
        >>> ended, held = {"type": "Failed", "status": "True"}, {"type": "Suspended", "status": "False"}
        >>> list(true_conditions({"status": {"conditions": [ended, held]}})), true_conditions({})
        (['Failed'], {})
    """
    found = job.get("status", {}).get("conditions") or []
    return {each["type"]: each for each in found if each["status"] == "True"}
