"""The user's pod template, ``pods.yaml``: image, GPUs, volumes, labels, tolerations of a group's pods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import yaml

from eai_notebook.errors import EaiError

CONTAINER: Final = "rank"
"""The container that ranks run in, if the template has several; else its only one."""
_OURS: Final = ("command", "args")
LEASE: Final = "eai-notebook/lease-seconds"
PYTHON: Final = "eai-notebook/python"
"""Annotations of the template that are settings of ours."""
LEASE_S: Final = 60.0
GPUS: Final = ("nvidia.com/gpu", "amd.com/gpu")
"""Resources of a container that are GPUs, one of which a rank uses."""


@dataclass(frozen=True)
class PodTemplate:
    """What pods are to be, as their user has written it."""

    metadata: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """The labels, which the job gets as well: a queue reads them there."""
        return dict(self.metadata.get("labels") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations."""
        return {
            name: str(value) for name, value in (self.metadata.get("annotations") or {}).items()
        }

    @property
    def lease_s(self) -> float:
        """After how many seconds without its notebook a pod ends itself."""
        try:
            return max(1.0, float(self.annotations.get(LEASE, LEASE_S)))
        except ValueError as error:
            raise _wrong(f"the annotation {LEASE} is no number") from error

    @property
    def container(self) -> dict[str, Any]:
        """The container that ranks run in."""
        every: list[dict[str, Any]] = self.spec["containers"]
        return next((each for each in every if each.get("name") == CONTAINER), every[0])

    @property
    def gpus(self) -> int:
        """How many GPUs a pod has."""
        limits = (self.container.get("resources") or {}).get("limits") or {}
        return sum(int(limits.get(name, 0)) for name in GPUS)

    @property
    def cores(self) -> int | None:
        """How many cores a pod has, rounded up; None without a limit.

        Examples:
            >>> limits = {"cpu": "1500m"}
            >>> container = {"name": "rank", "resources": {"limits": limits}}
            >>> PodTemplate(spec={"containers": [container]}).cores
            2
        """
        resources = self.container.get("resources") or {}
        found = (resources.get("limits") or {}).get("cpu")
        if found is None:
            return None
        text = str(found)
        try:
            count = Decimal(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
        except InvalidOperation as error:
            raise _wrong(f"{text!r} is no number of cores") from error
        return max(1, math.ceil(count))


def read_template(
    file: str | None, image: str | None = None, gpus: int | None = None
) -> PodTemplate:
    """Return the template in `file`, or a plain one, with the image and GPUs that options name.

    Raises:
        EaiError: The file cannot be read, or is no template of a pod.
    """
    template = _parsed(Path(file).expanduser()) if file else PodTemplate(spec=_plain())
    container = template.container
    if image:
        container["image"] = image
    if gpus:
        resources = container.setdefault("resources", {})
        resources.setdefault("limits", {})[GPUS[0]] = gpus
    return template


def _plain() -> dict[str, Any]:
    return {"containers": [{"name": CONTAINER}]}


def _parsed(file: Path) -> PodTemplate:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        words = getattr(error, "strerror", None) or error
        raise _wrong(f"{file} cannot be read ({words})") from error
    if isinstance(found, dict) and found.get("kind") == "PodTemplate":
        found = found.get("template")
    if not isinstance(found, dict) or not isinstance(found.get("spec"), dict):
        raise _wrong(f"{file} has no `spec`")
    spec, metadata = found["spec"], found.get("metadata") or {}
    containers = spec.get("containers")
    if not isinstance(containers, list) or not all(isinstance(each, dict) for each in containers):
        raise _wrong(f"{file} has no `spec.containers`")
    if not containers:
        spec["containers"] = _plain()["containers"]
    template = PodTemplate(metadata, spec)
    for name in _OURS:
        if name in template.container:
            raise _wrong(f"{file} sets `{name}` of the ranks' container, which is the launcher's")
    return template


def _wrong(what: str) -> EaiError:
    return EaiError(
        what,
        "write a pod as for `kubectl apply`: `metadata`, and `spec` with `containers`",
        code="kube-template",
    )
