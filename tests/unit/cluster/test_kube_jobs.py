"""Kubernetes without a cluster: manifests, the user's template, and what pods' states mean."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from eai_notebook.cluster.batch_system import AGAIN, BatchJob
from eai_notebook.cluster.keys import KeyPair
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.kube_jobs.kube_api import KubeApi
from eai_notebook.cluster.kube_jobs.pod_channel import Agent, Runner
from eai_notebook.cluster.kube_jobs.pod_patience import PodPatience
from eai_notebook.cluster.kube_jobs.pod_states import TROUBLE_S, pod_state
from eai_notebook.cluster.kube_jobs.pod_template import read_template
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path


def template_file(folder: Path, text: str) -> str:
    file = folder / "pods.yaml"
    file.write_text(text)
    return str(file)


PODS = """
metadata:
  labels: {kueue.x-k8s.io/queue-name: vision}
spec:
  tolerations: [{key: gpu, operator: Exists}]
  containers:
    - name: logs
      image: logs:1
    - name: rank
      image: train:1
      resources: {limits: {nvidia.com/gpu: 4, cpu: 7500m}}
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"""


def test_the_template_gives_pods_their_image_gpus_labels_and_volumes(tmp_path: Path) -> None:
    launcher = make_launcher(8, {"kube": template_file(tmp_path, PODS)})
    job, secret = yaml.safe_load_all(launcher.describe())
    assert job["spec"]["parallelism"] == 2  # a rank a GPU
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision"
    pod = job["spec"]["template"]["spec"]
    logs, rank = pod["containers"]
    assert "command" not in logs
    assert "eai_notebook.cluster.kube_jobs.pod_agent" in rank["command"]
    assert [each["name"] for each in pod["volumes"]] == ["data", "eai-keys", "eai-shm"]
    assert {"name": "eai-shm", "emptyDir": {"medium": "Memory"}} in pod["volumes"]
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["automountServiceAccountToken"] is False
    assert secret["metadata"]["ownerReferences"][0]["kind"] == "Job"
    assert read_template(template_file(tmp_path, PODS)).cores == 8


def test_a_shared_memory_of_the_users_own_stays(tmp_path: Path) -> None:
    text = "spec: {containers: [{name: rank, image: i, volumeMounts: [{name: m, mountPath: /dev/shm}]}]}"
    made = manifests.job("n", "g", 1, read_template(template_file(tmp_path, text)))
    names = [each["name"] for each in made["spec"]["template"]["spec"]["volumes"]]
    assert names == ["eai-keys"]


@pytest.mark.parametrize(
    "text",
    ["", "[", "kind: Pod", "spec: {containers: 3}", "spec: {containers: [{command: [x]}]}"],
    ids=["empty", "no-yaml", "no-spec", "no-containers", "a-command"],
)
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EaiError) as raised:
        make_launcher(2, {"kube": template_file(tmp_path, text)})
    assert raised.value.code == "kube-template"


@pytest.mark.parametrize("user", ["", "-", "Ünï", "a" * 300, "ada@example.org"])
def test_a_jobs_name_is_valid_whatever_the_user_is_called(user: str) -> None:
    name = manifests.job_name(user, "g12ab")
    assert name == name.lower()
    assert name.replace("-", "").isalnum()
    assert name.isascii()
    assert name.endswith("-g12ab")
    assert len(f"{name}-9999-abcde") <= 63


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **status.pop("metadata", {})}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": state}]}


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("status", "words", "patience"),
    [
        (condition("PodScheduled", "False", "Unschedulable", "0/2 nodes"), "0/2 nodes", 600.0),
        (condition("PodScheduled", "False", "SchedulingGated"), "queue", None),
        (container(waiting={"reason": "ErrImageNeverPull"}), "ErrImageNeverPull", 0.0),
        (container(waiting={"reason": "ImagePullBackOff"}), "ImagePullBackOff", TROUBLE_S),
        (container(waiting={"reason": "CrashLoopBackOff"}), "CrashLoopBackOff", TROUBLE_S),
        (container(waiting={"reason": "ContainerCreating"}), "ContainerCreating", 600.0),
        ({"phase": "Running", **container(running={})}, "Running", None),
    ],
)
def test_a_pod_that_waits_says_why_and_for_how_long(
    status: dict[str, Any], words: str, patience: float | None
) -> None:
    found = pod_state(pod(**status), 600.0)
    assert words in found.words
    assert found.patience_s == patience
    assert found.ended is None


def failed_pull(reason: str, port: int) -> dict[str, Any]:
    """Return a status as Kubernetes 1.36 gives it; the port is that of the last try."""
    failed = (
        'failed to pull and unpack image "127.0.0.1:39769/train:1": failed to resolve reference '
        '"127.0.0.1:39769/train:1": failed to do request: Head "http://127.0.0.1:39769/v2/train/manifests/1": '
        f"read tcp 127.0.0.1:{port}->127.0.0.1:39769: read: connection reset by peer"
    )
    wait = 'Back-off pulling image "127.0.0.1:39769/train:1": ErrImagePull: '
    message = failed if reason == "ErrImagePull" else wait + failed
    return container(waiting={"reason": reason, "message": message})


def test_the_wait_for_an_image_is_counted_over_all_tries() -> None:
    recorded = [
        (1.6, failed_pull("ErrImagePull", 57786)),
        (7.5, failed_pull("ImagePullBackOff", 57786)),
        (20.6, failed_pull("ErrImagePull", 47576)),
        (28.7, failed_pull("ImagePullBackOff", 47576)),
        (48.8, failed_pull("ErrImagePull", 44010)),
    ]
    patience = PodPatience(iter([seconds for seconds, _ in recorded]).__next__)
    states = [pod_state(pod(**status), 600.0) for _, status in recorded]
    over = [patience.is_over(state) for state in states]
    assert over == [False, False, False, False, True]
    assert "does not reach the registry" in states[-1].remedy


def test_a_pod_that_changes_what_it_waits_for_is_waited_for_anew() -> None:
    patience = PodPatience(iter([0.0, 500.0, 1000.0]).__next__)
    nowhere = condition("PodScheduled", "False", "Unschedulable", "0/2 nodes")
    creating = container(waiting={"reason": "ContainerCreating"})
    initializing = container(waiting={"reason": "PodInitializing"})
    for status in (nowhere, creating, initializing):
        assert not patience.is_over(pod_state(pod(**status), 600.0))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('failed to resolve reference "r.org/train:2": r.org/train:2: not found', "push it"),
        ("unexpected status from HEAD request: 403 Forbidden", "imagePullSecrets"),
        ("pull access denied, repository does not exist", "imagePullSecrets"),
        ("429 Too Many Requests - toomanyrequests: You have reached your limit", "limits pulls"),
        ("dial tcp: lookup r.org on 10.0.0.10:53: no such host", "does not reach the registry"),
        ("no match for platform in manifest: not found", "processor"),
        ("something new", "whether nodes may pull it"),
    ],
)
def test_an_image_that_cannot_be_pulled_has_a_remedy(message: str, words: str) -> None:
    waiting = {"reason": "ErrImagePull", "message": message}
    assert words in pod_state(pod(**container(waiting=waiting)), 600.0).remedy


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"reason": "Evicted", "message": "low on memory", "phase": "Failed"}, "low on memory"),
        (condition("DisruptionTarget", "True", "PreemptionByScheduler"), "preempted"),
        (condition("DisruptionTarget", "True", "EvictionByEvictionAPI"), "evicted"),
        (container(terminated={"reason": "OOMKilled", "exitCode": 137}), "memory"),
        ({"metadata": {"deletionTimestamp": "now"}}, "deleted"),
        ({"phase": "Failed", **container(terminated={"exitCode": 3})}, "exit code 3"),
        (
            {
                "phase": "Failed",
                **container(terminated={"exitCode": 128, "message": 'exec: "/no/python"'}),
            },
            "/no/python",
        ),
    ],
)
def test_a_pods_end_is_named(status: dict[str, Any], words: str) -> None:
    assert words in str(pod_state(pod(**status), 600.0).ended)


def test_kube_goes_with_a_file_or_without(tmp_path: Path) -> None:
    from eai_notebook.magics.parser import parse

    assert parse("up -n 2 --kube").kube == ""
    assert parse("up -n 2").kube is None
    file = template_file(tmp_path, PODS)
    assert parse(f"up -n 2 --kube {file} --image i:2").kube == file
    launcher = make_launcher(2, {"kube": file, "image": "i:2"})
    assert "i:2" in launcher.describe()


def test_the_line_to_pods_lets_in_the_groups_key_and_no_other() -> None:
    pair, stranger = KeyPair.make(), KeyPair.make()
    runner = Runner("127.0.0.1", pair)
    with contextlib.closing(Agent({**runner.where, **stranger.fields()}, 1)) as other:
        other.send("hello", {"index": 1})
        with contextlib.closing(Agent(runner.where, 0)) as agent:
            agent.send("hello", {"index": 0})
            (heard,) = runner.receive(20.0)
            runner.send(heard[0], "start", {"size": 2})
            assert heard == (b"pod-0", "hello", {"index": 0})
            assert agent.receive() == ("start", {"size": 2})
    assert runner.receive(0.2) == []
    runner.close()


def test_a_notebook_runs_in_a_pod_of_the_template_without_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_WIRE", "fp16")
    monkeypatch.setenv("HF_TOKEN", "secret")
    launcher = make_launcher(8, {"kube": template_file(tmp_path, PODS), "pod_wait": 5.0})
    batch = launcher.batch_system()
    assert batch is not None
    job = yaml.safe_load(batch.describe(BatchJob("eai-x", tmp_path, tmp_path, ["python", "w"])))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision"
    assert job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [AGAIN]
    pod = job["spec"]["template"]["spec"]
    rank = pod["containers"][1]
    assert rank["resources"]["limits"] == {"cpu": "7500m"}
    assert {"name": "EAI_WIRE", "value": "fp16"} in rank["env"]
    assert "HF_TOKEN" not in {each["name"] for each in rank["env"]}
    assert "python w &" in rank["command"][2]
    assert pod["automountServiceAccountToken"] is True
    assert batch.group_options(tmp_path) == {"pod_wait": 5.0, "kube": str(tmp_path / "pods.yaml")}


def test_an_mpi_job_has_a_launcher_without_gpus_and_workers_with_sshd(tmp_path: Path) -> None:
    options = {"kube": template_file(tmp_path, PODS), "mpijob": True}
    batch = make_launcher(8, options).batch_system()
    assert batch is not None
    job = yaml.safe_load(batch.describe(BatchJob("eai-x", tmp_path, tmp_path, ["python", "w"])))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision"
    assert job["spec"]["slotsPerWorker"] == 4
    replicas = job["spec"]["mpiReplicaSpecs"]
    assert replicas["Worker"]["replicas"] == 2
    launcher, worker = (replicas[kind]["template"]["spec"] for kind in ("Launcher", "Worker"))
    for spec in (launcher, worker):  # the operator looks at the first container
        assert [each["name"] for each in spec["containers"]] == ["rank", "logs"]
        assert "restartPolicy" not in spec
    assert "python w &" in launcher["containers"][0]["command"][2]
    assert launcher["containers"][0]["resources"]["limits"] == {"cpu": "7500m"}
    assert "command" not in worker["containers"][0]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert {"name": "eai-shm", "emptyDir": {"medium": "Memory"}} in worker["volumes"]
    assert batch.group_options(tmp_path) == {"hosts": "/etc/mpi/hostfile"}


def test_an_mpi_job_is_neither_a_group_of_a_notebook_nor_of_uneven_pods(tmp_path: Path) -> None:
    options = {"kube": template_file(tmp_path, PODS), "mpijob": True}
    group = make_launcher(8, options)
    for used in (lambda: group.prepare(print), group.describe):
        with pytest.raises(EaiError) as raised:
            used()
        assert raised.value.code == "kube-mpijob"
    with pytest.raises(EaiError) as raised:
        make_launcher(6, options).batch_system()
    assert raised.value.code == "group-size"


@pytest.mark.parametrize("body", [b'{"gitVer', b"no JSON"], ids=["cut", "another-program"])
def test_an_answer_that_cannot_be_read_is_an_api_server_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    length = 7 if body == b"no JSON" else 100
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)

    def serve(door: socket.socket) -> None:
        line, _ = door.accept()
        with line:
            line.recv(1 << 16)
            line.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as door:
        server = f"http://127.0.0.1:{door.getsockname()[1]}"
        settings = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "config").write_text(yaml.safe_dump(settings))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        thread = threading.Thread(target=serve, args=(door,))
        thread.start()
        with pytest.raises(EaiError) as raised:
            KubeApi().version()
        thread.join()
    assert raised.value.code == "kube-unreachable"
