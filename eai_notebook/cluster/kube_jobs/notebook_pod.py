"""A whole notebook as a job of Kubernetes: one pod runs it, and starts its group's pods by the API itself."""

from __future__ import annotations

import contextlib
import copy
import os
import shlex
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import (
    AGAIN,
    OURS,
    OUTPUT_FILE,
    RESTARTS,
    BatchJob,
    BatchState,
    BatchSystem,
)
from eai_notebook.cluster.forwarding import MORE
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.kube_jobs.pod_patience import WAIT_S, PodPatience
from eai_notebook.cluster.kube_jobs.pod_settings import settings_for_pods
from eai_notebook.cluster.kube_jobs.pod_states import NODE, PodState, pod_state
from eai_notebook.cluster.kube_jobs.pod_template import GPUS, PYTHON, PodTemplate
from eai_notebook.cluster.notebook_script import go_to_folder, notebook_lines
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from eai_notebook.cluster.kube_jobs.kube_api import KubeApi

LEAVE_S: Final = 20
"""How long a notebook may still write a checkpoint after SIGTERM, before it is interrupted."""
_GRACE_S: Final = 45
_STARTS: Final = 100
"""How often the pod may be started again; a job that makes no progress ends by itself long before."""
_KEPT_S: Final = 3600
"""How long a job that has ended stays, so that its end can be read."""
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
        self._patience = PodPatience()

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
                "ttlSecondsAfterFinished": _KEPT_S,
                "template": {
                    "metadata": {"labels": labels, "annotations": template.annotations},
                    "spec": self._pod_spec(job),
                },
            },
        }

    def _pod_spec(self, job: BatchJob) -> dict[str, Any]:
        spec = copy.deepcopy(self._template.spec)
        container = PodTemplate(self._template.metadata, spec).container
        container["command"] = ["/bin/sh", "-c", self._script(job)]
        known = {each.get("name") for each in container.get("env") or []}
        settings = {**settings_for_pods(), RESTARTS: "1"}
        if MORE in os.environ:  # the notebook starts a group, and sends the same variables on
            settings[MORE] = os.environ[MORE]
        container["env"] = [
            *(container.get("env") or []),
            *({"name": k, "value": v} for k, v in sorted(settings.items()) if k not in known),
        ]
        for kind in ("limits", "requests"):  # the ranks' pods have the GPUs
            for gpu in GPUS:
                (container.get("resources") or {}).get(kind, {}).pop(gpu, None)
        spec["restartPolicy"] = "Never"
        spec.setdefault("automountServiceAccountToken", True)
        spec.setdefault("terminationGracePeriodSeconds", _GRACE_S)
        return spec

    def _script(self, job: BatchJob) -> str:
        python = self._template.annotations.get(PYTHON)
        command = [python, *job.command[1:]] if python else job.command
        output = shlex.quote(str(job.folder / OUTPUT_FILE))
        return "\n".join(
            [
                go_to_folder(job, "in the pod: mount it there, at the same path"),
                f"exec >>{output} 2>&1",
                *notebook_lines(BatchJob(job.name, job.folder, job.work, command), LEAVE_S),
                'exit "$code"',
                "",
            ]
        )

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
                return BatchState("gone", is_over=True, end="was deleted")
            pods = api.pods(name)
        except EaiError:
            return None
        status = found.get("status", {})
        over = [
            each
            for each in status.get("conditions") or []
            if each["type"] in ("Complete", "Failed") and each["status"] == "True"
        ]
        if over:
            return _ended(over[0], [api.last_line(pod["metadata"]["name"]) for pod in pods[-1:]])
        if found["spec"].get("suspend"):
            return BatchState("suspended by its queue", is_queued=True)
        wait_s = float(self._group.get("pod_wait", WAIT_S))
        states = [pod_state(pod, wait_s) for pod in pods]
        running = next((each for each in states if each.is_running), None)
        if running is not None:
            return BatchState(f"running in pod {running.name}")
        return self._queued(api, name, [each for each in states if not each.ended])

    def _queued(self, api: KubeApi, name: str, waiting: list[PodState]) -> BatchState:
        """Return the state of a job whose pod waits, or is yet to be made."""
        if not waiting:
            return BatchState(api.last_warning(name) or "waits for its pod", is_queued=True)
        words = "; ".join(each.words for each in waiting)
        for each in waiting:
            # For a node it waits as long as it takes, as in any queue.
            if each.waits_for != NODE and self._patience.is_over(each):
                more = api.last_warning(each.name) if each.asks == "warning" else ""
                found = f"{each.words} ({more})" if more else each.words
                return BatchState(words, is_queued=True, obstacle=f"{found}: {each.remedy}")
        return BatchState(words, is_queued=True)

    def cancel(self, identity: str) -> None:
        """Delete the job; its pod is asked to end, and takes its group along."""
        with contextlib.suppress(EaiError):
            self._connect().delete_job(identity.partition("/")[2])

    def title(self, identity: str) -> str:
        """Return the job's name."""
        return f"Kubernetes job {identity.partition('/')[2]}"


def _ended(condition: dict[str, Any], said: list[str]) -> BatchState:
    """Return the state of a job that has ended, with what its pod's last words are if it wrote none to the log."""
    if condition["type"] == "Complete" or (condition.get("reason") == _BY_ITSELF and not any(said)):
        return BatchState("ended", is_over=True)
    words = said[0] if said and said[0] else str(condition.get("message", "")).strip()
    words = words.removeprefix(OURS)
    return BatchState("ended", is_over=True, end=f"ended: {words}" if words else "ended")
