"""Manifests of a group: its job, the Secret with its keys, and the Role that its user needs.

The job is an Indexed one: its pods start together, a pod that fails ends all, and a job that has ended
removes itself. The pods of a StatefulSet cannot end: they would be started again without end.
"""

from __future__ import annotations

import base64
import copy
import re
from typing import Any, Final

import yaml

from eai_notebook.cluster.kube_jobs.pod_template import PYTHON, PodTemplate
from eai_notebook.python_command import module_command

FOLDER: Final = "/run/eai-notebook"
"""Where pods find the Secret."""
SETTINGS: Final = "settings.json"
KEYS: Final = "connection.json"
GROUP: Final = "eai-notebook/group"
_KEPT_S: Final = 60
"""How long a job that has ended stays, so that its end can be read."""
_GRACE_S: Final = 10
_LONGEST: Final = 50
"""Letters of a job's name: pods add an index and six letters, and a label holds 63."""

RIGHTS: Final = (
    ("batch", "jobs", ("create", "get", "delete")),
    ("", "secrets", ("create",)),
    ("", "pods", ("get", "list")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""What the user's account must be allowed: group of the API, resource, verbs."""
MPI_JOB_RIGHT: Final = ("kubeflow.org", "mpijobs", ("create", "get", "delete"))
"""What it must be allowed besides, for notebooks as MPIJobs."""


def job_name(user: str, group: str) -> str:
    """Return the name of a group's job, valid for Kubernetes whatever the user is called.

    Examples:
        >>> job_name("Ada.Lovelace@example.org", "g1a2b")
        'eai-ada-lovelace-example-org-g1a2b'
        >>> len(job_name("x" * 80, "g1a2b"))
        50
    """
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "user"
    room = _LONGEST - len("eai--") - len(group)
    return f"eai-{plain[:room].strip('-')}-{group}"


def job(name: str, group: str, pods: int, template: PodTemplate) -> dict[str, Any]:
    """Return the job of `pods` pods, made of the user's template."""
    labels = {**template.labels, "app.kubernetes.io/managed-by": "eai-notebook", GROUP: group}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": template.annotations},
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {
                "metadata": {"labels": labels, "annotations": template.annotations},
                "spec": _pod_spec(name, template),
            },
        },
    }


def _pod_spec(name: str, template: PodTemplate) -> dict[str, Any]:
    spec = copy.deepcopy(template.spec)
    container = PodTemplate(template.metadata, spec).container
    command = module_command("eai_notebook.cluster.kube_jobs.pod_agent", f"{FOLDER}/{SETTINGS}")
    if python := template.annotations.get(PYTHON):
        command[0] = python
    container["command"] = command
    mounts = container.setdefault("volumeMounts", [])
    volumes = spec.setdefault("volumes", [])
    mounts.append({"name": "eai-keys", "mountPath": FOLDER, "readOnly": True})
    # Readable for whatever user the image runs as; nobody else is in the container.
    volumes.append({"name": "eai-keys", "secret": {"secretName": name, "defaultMode": 0o444}})
    with_shared_memory(spec)
    spec["restartPolicy"] = "Never"
    spec.setdefault("automountServiceAccountToken", False)
    spec.setdefault("terminationGracePeriodSeconds", _GRACE_S)
    return spec


def with_shared_memory(spec: dict[str, Any]) -> dict[str, Any]:
    """Give the ranks' container `/dev/shm` from memory, unless it has its own; return the spec."""
    mounts = PodTemplate(spec=spec).container.setdefault("volumeMounts", [])
    if not any(mount.get("mountPath") == "/dev/shm" for mount in mounts):  # noqa: S108
        # A container has 64 MB there, which ranks of one pod exceed when they exchange.
        mounts.append({"name": "eai-shm", "mountPath": "/dev/shm"})  # noqa: S108
        memory = {"name": "eai-shm", "emptyDir": {"medium": "Memory"}}
        spec.setdefault("volumes", []).append(memory)
    return spec


def secret(name: str, owner: str, files: dict[str, str]) -> dict[str, Any]:
    """Return the Secret of a job, which goes with it; ``owner`` is the job's uid."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}
            ],
        },
        "immutable": True,
        "data": {file: base64.b64encode(text.encode()).decode() for file, text in files.items()},
    }


def as_yaml(*objects: dict[str, Any]) -> str:
    """Return manifests as `kubectl apply -f -` takes them."""
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, default_flow_style=False)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: aliases are hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def role(name: str, namespace: str, *, mpi_jobs: bool = False) -> dict[str, Any]:
    """Return the Role that an administrator binds to the user's account."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in (*RIGHTS, *([MPI_JOB_RIGHT] if mpi_jobs else []))
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": rules,
    }
