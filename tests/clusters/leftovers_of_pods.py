"""What groups have left in a test Kubernetes, and on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eai_notebook.cluster import registry

if TYPE_CHECKING:
    from clusters.kube_cluster import KubeCluster


def left_in_cluster(kube: KubeCluster, patience: float = 60.0) -> list[str]:
    """Return the jobs, pods, Secrets and groups that are there when `patience` is over, or none are."""
    until = time.monotonic() + patience
    while left := [
        *(f"{kind}/{name}" for kind in ("jobs", "pods", "secrets") for name in kube.names(kind)),
        *(entry.name for entry in registry.entries()),
    ]:
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    return left
