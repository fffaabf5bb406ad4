"""A whole notebook as a job of Kubernetes: one pod runs it, and starts its group's pods by the API itself."""

from __future__ import annotations

import contextlib
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import AGAIN, RESTARTS, BatchJob, BatchState, BatchSystem
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.kube_jobs.notebook_container import notebook_pod_spec
from eai_notebook.cluster.kube_jobs.notebook_state import (
    DELETED,
    KEPT_S,
    SUSPENDED,
    NotebookState,
    true_conditions,
)
from eai_notebook.cluster.kube_jobs.pod_patience import WAIT_S
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from eai_notebook.cluster.kube_jobs.kube_api import KubeApi
    from eai_notebook.cluster.kube_jobs.pod_template import PodTemplate

_STARTS: Final = 100
"""How often the pod may be started again; a job that makes no progress ends by itself long before."""
_TEMPLATE: Final = "pods.yaml"
_BY_ITSELF: Final = "PodFailurePolicy"


class KubeNotebookJobs(BatchSystem):
    """Runs notebooks in a pod of the user's template, whose account may create a group's job.

    Args:
        template: What pods are to be.
        group: The options of the notebook's groups, beside the template.
        user: Whose job it is.
        connect: Returns the API, once it has been asked whether it would run such pods.
    """

    def __init__(
        self,
        template: PodTemplate,
        group: Mapping[str, Any],
        user: str,
        connect: Callable[[], KubeApi],
    ) -> None:
        self._template = template
        self._group = dict(group)
        self._name = manifests.job_name(user, f"nb-{token_hex(3)}")
        self._connect = connect
        wait_s = float(self._group.get("pod_wait", WAIT_S))
        self._state = NotebookState(wait_s, lambda _pod: True)

    def group_options(self, folder: Path) -> dict[str, Any]:
        """Return the options of a group in the job: pods of the same template."""
        return {**self._group, "kube": str(folder / _TEMPLATE)}

    def describe(self, job: BatchJob) -> str:
        """Return the job's manifest."""
        return manifests.as_yaml(self._manifest(job))

    def _manifest(self, job: BatchJob) -> dict[str, Any]:
        template = self._template
        labels = {**template.labels, "app.kubernetes.io/managed-by": "eai-notebook"}
        name = template.container["name"]
        # A pod that is evicted starts again; so does one that was asked to end and wrote a checkpoint.
        again = [
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": name, "operator": "NotIn", "values": [AGAIN]},
            },
        ]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self._name,
                "labels": labels,
                "annotations": {**template.annotations, "eai-notebook/notebook": job.name},
            },
            "spec": {
                "backoffLimit": _STARTS,
                "podFailurePolicy": {"rules": again},
                "podReplacementPolicy": "Failed",
                "ttlSecondsAfterFinished": KEPT_S,
                "template": {
                    "metadata": {"labels": labels, "annotations": template.annotations},
                    "spec": self._pod_spec(job),
                },
            },
        }

    def _pod_spec(self, job: BatchJob) -> dict[str, Any]:
        spec = notebook_pod_spec(self._template, job, {RESTARTS: "1"})
        spec.setdefault("automountServiceAccountToken", True)
        return spec

    def submit(self, job: BatchJob) -> str:
        """Create the job; return its namespace and name."""
        api = self._connect()
        template = {"metadata": self._template.metadata, "spec": self._template.spec}
        write_private(job.folder / _TEMPLATE, manifests.as_yaml(template))
        api.create_job(self._manifest(job))
        return f"{api.namespace}/{self._name}"

    def look(self, identity: str) -> BatchState | None:
        """Return the state of the job's pod, or how the job has ended."""
        name = identity.partition("/")[2]
        try:
            api = self._connect()
            found = api.job(name)
            if found is None:
                return DELETED
            pods = api.pods(name)
        except EaiError:
            return None
        conditions = true_conditions(found)
        if end := conditions.get("Complete") or conditions.get("Failed"):
            by_itself = end["type"] == "Complete" or end.get("reason") == _BY_ITSELF
            message = str(end.get("message", ""))
            return self._state.ended(api, pods, by_itself=by_itself, message=message)
        return SUSPENDED if found["spec"].get("suspend") else self._state.look(api, name, pods)

    def cancel(self, identity: str) -> None:
        """Delete the job; its pod is asked to end, and takes its group along."""
        with contextlib.suppress(EaiError):
            self._connect().delete_job(identity.partition("/")[2])

    def title(self, identity: str) -> str:
        """Return the job's name."""
        return f"Kubernetes job {identity.partition('/')[2]}"
