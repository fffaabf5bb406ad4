"""`eai-notebook check --kube` on a real Kubernetes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from clusters.leftovers_of_pods import left_in_cluster

if TYPE_CHECKING:
    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def checked(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "eai_notebook.cli", "check", "--kube", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_ranks_in_pods_sum(kube: KubeCluster) -> None:
    found = checked("--pods", str(kube.pod_file()))
    states = {each["name"]: (each["state"], each["found"]) for each in found["checks"]}
    assert found["works"], states
    assert states["pods"][0] == "ok"
    assert states["may jobs"] == ("ok", "create, get, delete")
    assert left_in_cluster(kube) == []


def test_missing_rights_are_listed_with_the_role_to_grant(kube: KubeCluster) -> None:
    found = checked("--pods", str(kube.pod_file()), "--namespace", "closed")
    assert not found["works"]
    missing = {each["name"]: each for each in found["checks"] if each["name"].startswith("may ")}
    assert {name: each["state"] for name, each in missing.items()} == {
        "may jobs": "fail",
        "may secrets": "fail",
        "may pods": "fail",
        "may pods/log": "note",
        "may events": "note",
    }
    assert all("eai-notebook kube manifests" in each["remedy"] for each in missing.values())
