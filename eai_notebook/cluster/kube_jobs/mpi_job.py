"""A whole notebook as an MPIJob of Kubeflow's mpi-operator (v2beta1), for clusters that run nothing else.

The operator makes the pods, gives them a key for ssh, and writes a hostfile. Its launcher runs the notebook, whose
group starts by ssh on the workers; so it asks for no right of the API. Format: kubeflow/mpi-operator,
``pkg/apis/kubeflow/v2beta1/types.go``.
"""

from __future__ import annotations

import contextlib
import copy
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import BatchJob, BatchState, BatchSystem
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.kube_jobs.notebook_container import notebook_pod_spec
from eai_notebook.cluster.kube_jobs.notebook_state import (
    DELETED,
    KEPT_S,
    SUSPENDED,
    NotebookState,
    true_conditions,
)
from eai_notebook.cluster.kube_jobs.pod_template import PodTemplate
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eai_notebook.cluster.kube_jobs.kube_api import KubeApi

HOSTFILE: Final = "/etc/mpi/hostfile"
"""Where the launcher finds the workers' names and slots."""
_ROLE: Final = "training.kubeflow.org/job-role"
_NAME: Final = "training.kubeflow.org/job-name"
_SSH: Final = (
    "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
    "-o ConnectionAttempts=10"
)
"""Pods have new host keys each time, and names that take a moment to resolve."""


class MpiJobs(BatchSystem):
    """Runs notebooks in the launcher of an MPIJob, and their ranks in its workers.

    Args:
        template: What workers are to be; the launcher is the same without GPUs.
        workers: How many there are.
        slots: Ranks of each worker.
        user: Whose job it is.
        wait_s: How long pods may take to start on their nodes, in seconds.
        connect: Returns the API.
    """

    def __init__(
        self,
        template: PodTemplate,
        workers: int,
        slots: int,
        user: str,
        wait_s: float,
        connect: Callable[[], KubeApi],
    ) -> None:
        self._template = template
        self._workers = workers
        self._slots = slots
        self._name = manifests.job_name(user, f"nb-{token_hex(3)}")
        self._connect = connect
        self._state = NotebookState(wait_s, _is_launcher)

    def group_options(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002
        """Return the options of a group in the job: the hosts in the operator's file."""
        return {"hosts": HOSTFILE}

    def describe(self, job: BatchJob) -> str:
        """Return the job's manifest."""
        return manifests.as_yaml(self._manifest(job))

    def _manifest(self, job: BatchJob) -> dict[str, Any]:
        template = self._template
        labels = {**template.labels, "app.kubernetes.io/managed-by": "eai-notebook"}
        launcher = notebook_pod_spec(template, job, {"EAI_SSH": _SSH})
        # What a container without a command runs here is the operator's sshd.
        worker = manifests.with_shared_memory(copy.deepcopy(template.spec))
        return {
            "apiVersion": "kubeflow.org/v2beta1",
            "kind": "MPIJob",
            "metadata": {
                "name": self._name,
                "labels": labels,
                "annotations": {**template.annotations, "eai-notebook/notebook": job.name},
            },
            "spec": {
                "slotsPerWorker": self._slots,
                "mpiImplementation": "OpenMPI",
                "launcherCreationPolicy": "WaitForWorkersReady",
                "runPolicy": {
                    "cleanPodPolicy": "Running",
                    "backoffLimit": 0,
                    "ttlSecondsAfterFinished": KEPT_S,
                },
                "mpiReplicaSpecs": {
                    "Launcher": self._replicas(1, launcher),
                    "Worker": self._replicas(self._workers, worker),
                },
            },
        }

    def _replicas(self, count: int, spec: dict[str, Any]) -> dict[str, Any]:
        template = self._template
        container = PodTemplate(template.metadata, spec).container
        # The operator looks at the first container only.
        spec["containers"].remove(container)
        spec["containers"].insert(0, container)
        spec.pop("restartPolicy", None)
        spec.setdefault("automountServiceAccountToken", False)
        metadata = {"labels": template.labels, "annotations": template.annotations}
        return {
            "replicas": count,
            "restartPolicy": "Never",
            "template": {"metadata": metadata, "spec": spec},
        }

    def submit(self, job: BatchJob) -> str:
        """Create the job; return its namespace and name."""
        api = self._connect()
        api.create_mpi_job(self._manifest(job))
        return f"{api.namespace}/{self._name}"

    def look(self, identity: str) -> BatchState | None:
        """Return the state of the job's pods, or how the job has ended."""
        name = identity.partition("/")[2]
        try:
            api = self._connect()
            found = api.mpi_job(name)
            if found is None:
                return DELETED
            pods = api.pods(name, _NAME)
        except EaiError:
            return None
        conditions = true_conditions(found)
        for kind in ("Succeeded", "Failed"):
            if end := conditions.get(kind):
                message = str(end.get("message", ""))
                return self._state.ended(api, pods, by_itself=True, message=message)
        if "Suspended" in conditions or found["spec"].get("runPolicy", {}).get("suspend"):
            return SUSPENDED
        if not conditions:
            return BatchState("waits for its operator", is_queued=True)
        return self._state.look(api, name, pods)

    def cancel(self, identity: str) -> None:
        """Delete the job; the operator ends its pods."""
        with contextlib.suppress(EaiError):
            self._connect().delete_mpi_job(identity.partition("/")[2])

    def title(self, identity: str) -> str:
        """Return the job's name."""
        return f"MPIJob {identity.partition('/')[2]}"


def _is_launcher(pod: dict[str, Any]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get(_ROLE) == "launcher")
