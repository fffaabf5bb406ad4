"""`eai-notebook check --kube`: may I, what would be admitted, and do two ranks in pods sum?"""

from __future__ import annotations

from typing import Any

from eai_notebook.cli.machine_checks import Finding
from eai_notebook.cluster.kube_jobs.kube_api import KubeApi
from eai_notebook.cluster.kube_jobs.manifests import RIGHTS
from eai_notebook.cluster.kube_jobs.trial_pods import run_in_pods
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.cluster.launchers.kube import KubeLauncher
from eai_notebook.collective.self_test import MARK
from eai_notebook.errors import EaiError

_PROBE = "eai_notebook.collective.self_test"
_GRANT = "grant the Role that `eai-notebook kube manifests` prints"
_EXTRAS = {
    "pods/log": "without it the last words of a pod that fails are missing",
    "events": "without it the reason why a pod waits may be missing",
}
WAIT_S = 240.0
"""How long the pods of the check may take."""


def findings(options: dict[str, Any], *, prove_horovod: bool = True) -> list[Finding]:
    """Return the lines about Kubernetes; the first failure ends them.

    ``options`` are those of the launcher; ``prove_horovod`` runs two ranks in pods.
    """
    found: list[Finding] = []
    try:
        _collect(found, options, prove_horovod=prove_horovod)
    except EaiError as error:
        found.append(Finding("Kubernetes", "fail", error.what, error.remedy))
    return found


def _collect(found: list[Finding], options: dict[str, Any], *, prove_horovod: bool) -> None:
    launcher = make_launcher(2, {"kube": "", **options}, "kube")
    assert isinstance(launcher, KubeLauncher)  # noqa: S101  by its name
    api = KubeApi(options.get("context"), options.get("namespace"))
    found.append(Finding("Kubernetes", "ok", f"{api.version()} at {api.server}, {api.account}"))
    found.append(Finding("namespace", "ok", api.namespace))
    found.extend(_rights(api))
    if any(each.state == "fail" for each in found):
        return
    launcher.prepare(lambda _words: None)
    container = launcher.template.container
    found.append(Finding("image", "ok", str(container["image"])))
    limits = (container.get("resources") or {}).get("limits") or {}
    asked = ", ".join(f"{name} {count}" for name, count in limits.items())
    remedy = "" if limits else "name cores, memory and GPUs in pods.yaml: `resources.limits`"
    found.append(Finding("resources", "ok" if limits else "note", asked or "no limits", remedy))
    found.append(Finding("admission", "ok", "the API server would create the job"))
    words = f"pods connect to {launcher.controller_address}; --interface changes it"
    found.append(Finding("way back", "ok", words))
    if prove_horovod:
        found.append(_sum_in_pods(launcher))


def _rights(api: KubeApi) -> list[Finding]:
    """Return a line for each resource, by `SelfSubjectAccessReview`."""
    found = []
    for group, resource, verbs in RIGHTS:
        name, _, part = resource.partition("/")
        missing = [verb for verb in verbs if not api.may(verb, name, group, part)]
        if not missing:
            found.append(Finding(f"may {resource}", "ok", ", ".join(verbs)))
            continue
        words = f"may not {', '.join(missing)}"
        if extra := _EXTRAS.get(resource):
            found.append(Finding(f"may {resource}", "note", words, f"{_GRANT}; {extra}"))
        else:
            found.append(Finding(f"may {resource}", "fail", words, _GRANT))
    return found


def _sum_in_pods(launcher: KubeLauncher) -> Finding:
    order = launcher.trial_order()
    try:
        proof = run_in_pods(order, _PROBE, mark=MARK, patience=WAIT_S)
    except EaiError as error:
        return Finding("pods", "fail", error.what, error.remedy)
    words = f"{proof['size']} ranks in {launcher.pods} pods have the same packages, and summed correctly"
    return Finding("pods", "ok", words)
