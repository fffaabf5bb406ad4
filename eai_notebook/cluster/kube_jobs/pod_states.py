"""`PodState`: a pod's state in words: why it waits, for how long it may, and of what it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eai_notebook.cluster.kube_jobs import image_remedies

NODE: Final = "node"
START: Final = "start"
IMAGE: Final = "image"
"""What a pod waits for: a node, its start on that node, its image."""
_HOPELESS: Final = frozenset({"ErrImageNeverPull", "InvalidImageName"})
_TROUBLE: Final = {
    **dict.fromkeys(
        (
            *_HOPELESS,
            "ErrImagePull",
            "ImagePullBackOff",
            "ImageInspectError",
            "RegistryUnavailable",
            "SignatureValidationFailed",
        ),
        IMAGE,
    ),
    "CreateContainerConfigError": "configuration",
    "CreateContainerError": "container",
    "RunContainerError": "container",
    "CrashLoopBackOff": "crash",
}
"""Faults of a container by the reason that the kubelet gives; it gives several of one kind in turns."""
_REMEDIES: Final = {
    NODE: "ask for less, or for other nodes, in pods.yaml; `--pod-wait` waits longer",
    "configuration": "see the names of Secrets and ConfigMaps in pods.yaml",
}
TROUBLE_S: Final = 45.0
"""How long a fault may last that sometimes passes, such as a registry that does not answer."""
_LONGEST: Final = 300
"""Letters of a runtime's message that are shown."""
_DISRUPTED: Final = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "was evicted, as when a node is drained",
    "DeletionByTaintManager": "was evicted from a node that pods may not stay on",
    "DeletionByPodGC": "was removed with its node, which is gone",
    "TerminationByKubelet": "was ended by its node",
}


@dataclass(frozen=True)
class PodState:
    """One pod: its name and its state in words.

    ``ended`` is of what it has ended or is ending, ``waits_for`` what it waits for, in a word that stays when
    the words change, ``patience_s`` how long it may wait for that (None for as long as it takes), ``asks`` what more to
    look up: a ``log`` or a ``warning``.
    """

    name: str
    words: str
    is_running: bool = False
    ended: str | None = None
    waits_for: str = ""
    patience_s: float | None = None
    asks: str = ""

    @property
    def remedy(self) -> str:
        """What its user can do about the wait."""
        if self.waits_for == IMAGE:
            return image_remedies.remedy(self.words)
        return _REMEDIES.get(self.waits_for, "see `kubectl describe pod`")


def pod_state(pod: dict[str, Any], wait_s: float) -> PodState:
    """Return the state of a pod, as the API describes it; ``wait_s`` is how long it may wait for anything."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if found := _end_of(pod):
        return found
    unplaced = _condition(status, "PodScheduled")
    if unplaced is not None and unplaced["status"] == "False":
        reason, message = unplaced.get("reason", "Unschedulable"), unplaced.get("message", "")
        if reason == "SchedulingGated":
            return PodState(name, "waits for its queue", waits_for="queue")
        words = f"{reason} ({message})" if message else reason
        return PodState(name, words, waits_for=NODE, patience_s=wait_s)
    for container in _containers(status):
        waiting = container["state"].get("waiting") or {}
        reason = waiting.get("reason", "")
        if kind := _TROUBLE.get(reason):
            message = waiting.get("message", "")
            words = f"{reason} ({message})" if message else reason
            patience = 0.0 if reason in _HOPELESS else min(TROUBLE_S, wait_s)
            asks = "log" if kind == "crash" else ""
            return PodState(name, words, waits_for=kind, patience_s=patience, asks=asks)
    if status.get("phase") == "Running":
        return PodState(name, "Running", is_running=True)
    waits = [each["state"].get("waiting", {}).get("reason", "") for each in _containers(status)]
    words = next((each for each in waits if each), "Pending")
    return PodState(name, words, waits_for=START, patience_s=wait_s, asks="warning")


def _end_of(pod: dict[str, Any]) -> PodState | None:
    """Return of what a pod has ended, or is ending; None of one that lives."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    disrupted = _condition(status, "DisruptionTarget")
    node = pod.get("spec", {}).get("nodeName", "")
    where = f" (node {node})" if node else ""
    if disrupted is not None and disrupted["status"] == "True":
        reason = disrupted.get("reason", "")
        words = _DISRUPTED.get(reason, f"was ended ({reason})")
        return PodState(name, words, ended=f"pod {name} {words}{where}")
    if status.get("reason") == "Evicted":
        words = f"was evicted ({status.get('message', '').strip()})"
        return PodState(name, words, ended=f"pod {name} {words}{where}")
    for container in _containers(status):
        over = container["state"].get("terminated")
        if over and over.get("reason") == "OOMKilled":
            words = "used more memory than its limit"
            return PodState(name, words, ended=f"pod {name} {words}{where}")
    if "deletionTimestamp" in pod["metadata"]:
        return PodState(name, "is being deleted", ended=f"pod {name} was deleted")
    if status.get("phase") in ("Failed", "Succeeded"):
        over = [each["state"].get("terminated") or {} for each in _containers(status)]
        first: dict[str, Any] = next((each for each in over if each.get("exitCode")), {})
        words = f"ended with exit code {first.get('exitCode', 0)}"
        # A program that cannot be started says so here, and has no log.
        if message := first.get("message") or status.get("message", ""):
            words += f" ({_shortened(message)})"
        return PodState(name, words, ended=f"pod {name} {words}", asks="log")
    return None


def _shortened(message: str) -> str:
    """Return the end of a message, where a runtime says what was wrong with which program."""
    plain = " ".join(message.split())
    return plain if len(plain) <= _LONGEST else f"... {plain[-_LONGEST:]}"


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any] | None:
    return next((each for each in status.get("conditions") or [] if each["type"] == kind), None)


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("initContainerStatuses", "containerStatuses")
    found = [each for name in names for each in status.get(name) or []]
    return [{**each, "state": each.get("state") or {}} for each in found]


def summary(states: list[PodState], pods: int) -> str:
    """Return the states of pods in one line, equal ones together.

    Examples:
        >>> summary([PodState("eai-a-0-x", "Running"), PodState("eai-a-1-y", "Pending")], 3)
        '1 of 3 pods: Running; 1: Pending; 1: not made yet'
    """
    counts: dict[str, int] = {}
    for state in states:
        counts[state.words] = counts.get(state.words, 0) + 1
    if len(states) < pods:
        counts["not made yet"] = pods - len(states)
    parts = [f"{count}: {words}" for words, count in counts.items()]
    if parts:
        first, words = parts[0].split(": ", 1)
        parts[0] = f"{first} of {pods} pods: {words}"
    return "; ".join(parts)
