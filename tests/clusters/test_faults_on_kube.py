"""Faults of pods, each to an end that names it and leaves nothing; ranks load no TensorFlow here."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from clusters.faulty_registry import FaultyRegistry
from clusters.kube_cluster import wait_until
from clusters.leftovers_of_pods import left_in_cluster
from clusters.notebook_process import killed_at_the_end
from ipyparallel.error import CompositeError

from eai_notebook.cluster import registry
from eai_notebook.cluster.group import Group
from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.kube_jobs.pod_template import LEASE, PYTHON
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]

NOWHERE = {"spec": {"nodeSelector": {"no-node": "has-this"}}}
NO_IMAGE = {"container": {"image": "eai.test/missing:1"}}
NO_PYTHON = {"annotations": {PYTHON: "/no/python"}}


@pytest.fixture(autouse=True)
def nothing_is_left(
    kube: KubeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    yield
    assert left_in_cluster(kube) == []


def started(
    kube: KubeCluster,
    template: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _words: None,
    **options: Any,
) -> Group:
    file = kube.pod_file(**(template or {}))
    launcher = make_launcher(2, {"kube": str(file), **options})
    launcher.prepare(progress)
    return start_group(launcher, progress)


def death(group: Group, fault: Callable[[], object]) -> str:
    """Return what the group says that it died of, after `fault`."""
    fault()
    wait_until(lambda: not group.is_alive)
    words = group.death()
    group.stop()
    return words


def answers(group: Group) -> bool:
    """Return whether both ranks run a cell; fail with what the group died of."""
    try:
        group.view([0, 1]).execute("product = 6 * 7", block=True)
    except CompositeError as error:
        wait_until(lambda: not group.is_alive)
        words = group.death()
        group.stop()
        raise AssertionError(words) from error
    return bool(group.view([0, 1]).pull("product", block=True) == [42, 42])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (NOWHERE, "Unschedulable (0/2 nodes"),
        (NO_IMAGE, "ErrImageNeverPull"),
        (NO_PYTHON, "/no/python"),
    ],
    ids=["no-node", "no-image", "no-python"],
)
def test_a_pod_that_cannot_start_is_named_with_its_reason(
    kube: KubeCluster, template: dict[str, Any], words: str
) -> None:
    with pytest.raises(EaiError) as raised:
        started(kube, template, pod_wait=4.0)
    assert raised.value.code == "start-failed"
    assert words in raised.value.what


def test_an_image_that_its_registry_does_not_have_is_given_up_with_a_remedy(
    kube: KubeCluster,
) -> None:
    with FaultyRegistry("404 Not Found") as registry:
        pulled = {"image": registry.image, "imagePullPolicy": "IfNotPresent"}
        with pytest.raises(EaiError) as raised:
            started(kube, {"container": pulled}, pod_wait=2.0)
    assert raised.value.code == "start-failed"
    assert "ImagePull" in raised.value.what
    assert "correct its name or tag" in raised.value.what


def test_pods_that_wait_are_shown_and_leave_with_stop(kube: KubeCluster) -> None:
    seen: list[str] = []

    def progress(words: str) -> None:
        seen.append(words)
        if "Unschedulable" in words:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        started(kube, NOWHERE, progress)
    assert any("of 2 pods: Unschedulable (0/2 nodes" in words for words in seen)


def test_a_namespace_without_rights_is_refused_before_anything_starts(kube: KubeCluster) -> None:
    with pytest.raises(EaiError) as raised:
        started(kube, namespace="closed")
    assert raised.value.code == "kube-refused"
    assert "create jobs" in raised.value.what


def test_a_job_that_the_api_server_would_not_admit_is_refused(kube: KubeCluster) -> None:
    with pytest.raises(EaiError) as raised:
        started(kube, {"spec": {"hostname": "No Host!"}})
    assert raised.value.code == "kube-refused"


def test_pods_without_a_way_back_are_named(kube: KubeCluster) -> None:
    with pytest.raises(EaiError, match=r"cannot be reached at 127\.0\.0\.1") as raised:
        started(kube, interface="lo")
    assert raised.value.code == "start-failed"


def test_two_groups_of_a_user_with_a_long_name_share_a_namespace_and_outlive_the_api_server(
    kube: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "Ada.Lovelace-" + "x" * 80 + "@example.org")
    first, second = started(kube), started(kube, ranks_per_pod=2)
    assert len(kube.names("jobs")) == 2
    assert len(kube.names("pods")) == 3
    kube.restart_api_server()
    assert answers(first)
    assert answers(second)
    pod = next(name for name in kube.names("pods") if name.startswith(_job_of(first)))
    found = death(first, lambda: kube.delete_pod(pod))
    assert f"pod {pod} was deleted" in found
    assert answers(second)
    second.stop()


def _job_of(group: Group) -> str:
    line = group.launcher.status()[0]
    return line.split()[2]


def test_pod_0_that_is_evicted_is_named(kube: KubeCluster) -> None:
    group = started(kube)
    pod = min(kube.names("pods"))
    assert f"pod {pod} was evicted" in death(group, lambda: kube.evict_pod(pod))


@pytest.mark.parametrize("crash", [False, True], ids=["notebook-killed", "machine-gone"])
def test_pods_leave_with_the_notebook(kube: KubeCluster, crash: bool) -> None:
    file = kube.pod_file(annotations={LEASE: "8"})
    with killed_at_the_end({"kube": str(file)}, with_its_machine=crash):
        assert len(kube.names("pods")) == 2
    if crash:
        wait_until(lambda: _all_ended(kube))  # the job itself goes a minute later
    else:
        wait_until(lambda: not kube.names("jobs"))
    wait_until(lambda: all(entry.state == "ended" for entry in registry.entries()))
    for entry in registry.entries():
        registry.reclaim(entry)
    for job in kube.names("jobs"):
        kube.delete_job(job)


def _all_ended(kube: KubeCluster) -> bool:
    pods = kube.api("GET", "/api/v1/namespaces/ranks/pods")["items"]
    return all(pod["status"].get("phase") in ("Failed", "Succeeded") for pod in pods)


def test_a_kept_group_is_attached_to_and_reclaimed(kube: KubeCluster) -> None:
    group = started(kube)
    group.keep()
    name = group.entry.name
    group.view([0, 1]).execute("secret = 41", block=True)
    group.leave()
    entry = registry.find(name)
    assert entry.state == "kept"
    again = Group.attach(entry, make_launcher(entry.size, entry.options, entry.launcher))
    assert again.view([1]).pull("secret", block=True) == [41]
    assert "Running" in again.launcher.status()[1]
    again.leave()
    assert registry.reclaim(registry.find(name)) > 0
