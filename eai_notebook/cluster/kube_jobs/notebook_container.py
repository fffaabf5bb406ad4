"""The pod that runs a notebook with its kernel: the user's template without its GPUs, and a script."""

from __future__ import annotations

import copy
import os
import shlex
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import OUTPUT_FILE, BatchJob
from eai_notebook.cluster.forwarding import MORE
from eai_notebook.cluster.kube_jobs.pod_settings import settings_for_pods
from eai_notebook.cluster.kube_jobs.pod_template import GPUS, PYTHON, PodTemplate
from eai_notebook.cluster.notebook_script import go_to_folder, notebook_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAVE_S: Final = 20
"""How long a notebook may still write a checkpoint after SIGTERM, before it is interrupted."""
_GRACE_S: Final = 45


def notebook_pod_spec(
    template: PodTemplate, job: BatchJob, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return the spec of a pod that runs the notebook of `job`; ``settings`` are more variables of its environment."""
    spec = copy.deepcopy(template.spec)
    container = PodTemplate(template.metadata, spec).container
    container["command"] = ["/bin/sh", "-c", _script(template, job)]
    known = {each.get("name") for each in container.get("env") or []}
    every = {**settings_for_pods(), **settings}
    if MORE in os.environ:  # the notebook starts a group, and sends the same variables on
        every[MORE] = os.environ[MORE]
    container["env"] = [
        *(container.get("env") or []),
        *({"name": k, "value": v} for k, v in sorted(every.items()) if k not in known),
    ]
    for kind in ("limits", "requests"):  # the ranks' pods have the GPUs
        for gpu in GPUS:
            (container.get("resources") or {}).get(kind, {}).pop(gpu, None)
    spec["restartPolicy"] = "Never"
    spec.setdefault("terminationGracePeriodSeconds", _GRACE_S)
    return spec


def _script(template: PodTemplate, job: BatchJob) -> str:
    python = template.annotations.get(PYTHON)
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
