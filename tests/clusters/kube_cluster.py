"""`KubeCluster`: a real Kubernetes on this machine: API server, controllers, scheduler, kubelets, containers.

Each node is a kubelet with a containerd and a bridge of its own; what a pod runs is this machine's files,
mounted read-only. Rights are real (`--authorization-mode=Node,RBAC`). Everything is noted first and removed
also by a later run (`hosts.leftovers`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import secrets
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs
import psutil
import yaml
from hosts import leftovers
from hosts.network import free_subnet
from paths import REPOSITORY
from typing_extensions import Self

from eai_notebook.cluster.kube_jobs.pod_states import pod_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAMS: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "pause",
)
TOOLS: Final = ("unshare", "etcd", "containerd", "runc", "ctr", "iptables", "ip", "openssl")
SEARCH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
PLUGINS: Final = "/usr/lib/cni"
IMAGE: Final = "eai.test/files:1"
"""An image of empty folders, into which the tests' pods mount this machine's files."""
_PAUSE: Final = "eai.test/pause:1"
_SOON_S: Final = 120.0
_SERVICES: Final = "10.63.0.0/24"
"""Nobody uses a service here, but the API server wants a network for them."""


def built() -> Path:
    """Return where `tools/kubernetes` keeps the programs of the version that is pinned."""
    text = (REPOSITORY / "tools" / "kubernetes_build" / "go.mod").read_text()
    version = text.partition("require k8s.io/kubernetes v")[2].split()[0]
    return platformdirs.user_cache_path("eai-notebook") / "kubernetes" / version


BUILT: Final = built()
"""Looked up before a test gives itself another cache folder."""


def mpi_job_definition() -> Path:
    """Return where `tools/kubernetes` keeps the definition of MPIJobs of the operator that is pinned."""
    module = (REPOSITORY / "tools" / "kubernetes_build" / "mpi-operator").read_text().split()[0]
    return BUILT.parent / f"mpijobs-{module.partition('@v')[2]}.yaml"


def why_not() -> str | None:
    """Return why there can be no Kubernetes here, in a sentence; None if there can."""
    if os.geteuid() != 0:
        return "a Kubernetes needs root: it starts containers"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    missing += [name for name in PROGRAMS if not (BUILT / name).exists()]
    if not Path(PLUGINS, "bridge").exists():
        missing.append("the network plug-ins")
    if missing:
        return f"tests with Kubernetes need {', '.join(missing)} (see tools/kubernetes)"
    return None


class KubeCluster:
    """A Kubernetes of `count` nodes; make it in a ``with`` block, or call `close`.

    A user ``eai`` has the rights of the documented Role in the namespace ``ranks``, and none in
    ``closed``; `kubeconfig` is that user's.
    """

    def __init__(self, count: int = 2) -> None:
        with leftovers.alone():
            leftovers.reclaim()
            self.tag = f"k{os.getpid() % 0xFFFF:x}{os.urandom(1).hex()}"
            self._remains = leftovers.Remains(self.tag)
            self.folder = Path(tempfile.gettempdir()) / f"eai-kube-{self.tag}"
            self._remains.add("folders", str(self.folder))
            self.folder.mkdir(mode=0o700)
            self._processes: dict[str, subprocess.Popen[bytes]] = {}
            self.nodes = [f"{self.tag}-n{i}" for i in range(count)]
            self._networks: dict[str, Any] = {}
            try:
                for node in self.nodes:
                    self._make_bridge(node)
            except BaseException:
                self.close()
                raise
        try:
            self._start()
        except BaseException as error:
            logs = [path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.out")]
            keep = os.environ.get("EAI_KEEP_KUBE")
            if not keep:
                self.close()
            what = f"Kubernetes did not start ({error})"
            raise RuntimeError("\n".join([what, *logs])) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the pods, the daemons and the networks."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._remains.remove()

    # -- for tests ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        """This machine's address on the first node's network, which all pods reach."""
        return self._gateway(self.nodes[0])

    @property
    def kubeconfig(self) -> Path:
        """The settings of the user ``eai``, in whose namespace ``ranks`` things are made."""
        return self.folder / "eai.kubeconfig"

    def api(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Call the API as an administrator; return what it answers.

        Raises:
            urllib.error.HTTPError: It refuses.
        """
        text = "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""
        kind = {"PATCH": "application/merge-patch+json"}.get(method, "application/json")
        asked = urllib.request.Request(
            f"https://{self.address}:{self._port}{path}{text}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._admin}", "Content-Type": kind},
        )
        trust = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        with urllib.request.urlopen(asked, context=trust, timeout=20) as answer:  # noqa: S310
            found = answer.read()
            return json.loads(found) if found.startswith(b"{") else found.decode()

    def names(self, kind: str, namespace: str = "ranks") -> list[str]:
        """Return the names of what there is of a kind, such as ``pods``."""
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        found = self.api("GET", f"{group}/namespaces/{namespace}/{kind}")["items"]
        return [each["metadata"]["name"] for each in found]

    def jobs(self) -> list[str]:
        """Return the names of the jobs."""
        return self.names("jobs")

    def published(self) -> list[str]:
        """Return what others of the namespace may read of the pods."""
        return [json.dumps(self.api("GET", "/api/v1/namespaces/ranks/pods"))]

    def delete_pod(self, name: str) -> None:
        """Delete a pod, as `kubectl delete pod` does."""
        self.api("DELETE", f"/api/v1/namespaces/ranks/pods/{name}")

    def delete_job(self, name: str) -> None:
        """Delete a job and its pods."""
        path = f"/apis/batch/v1/namespaces/ranks/jobs/{name}"
        self.api("DELETE", path, propagationPolicy="Background")

    def run_plain_job(self, command: Sequence[str], seconds: float = 120.0) -> float:
        """Run a command in the two pods of a job, by the API alone; return how long that takes.

        Raises:
            RuntimeError: A pod failed, or they did not end in `seconds`; with how they were then.
        """
        spec = pod_template(container={"command": list(command)})["spec"]
        job = {
            "metadata": {"name": "plain"},
            "spec": {
                "completions": 2,
                "parallelism": 2,
                "backoffLimit": 0,
                "template": {"spec": {**spec, "restartPolicy": "Never"}},
            },
        }
        path = "/apis/batch/v1/namespaces/ranks/jobs"
        begin = time.perf_counter()
        self.api("POST", path, job)
        while (status := self.api("GET", f"{path}/plain")["status"]).get("succeeded", 0) < 2:
            if status.get("failed") or time.perf_counter() - begin > seconds:
                raise RuntimeError(f"a plain job did not succeed: {self._pods_in_words()}")
            time.sleep(0.05)
        taken = time.perf_counter() - begin
        self.delete_job("plain")
        return taken

    def _pods_in_words(self) -> str:
        found = self.api("GET", "/api/v1/namespaces/ranks/pods")["items"]
        events = self.api("GET", "/api/v1/namespaces/ranks/events")["items"]
        states = [pod_state(pod, 0.0).words for pod in found]
        warnings = [each.get("message", "") for each in events if each.get("type") == "Warning"]
        return "; ".join([*states, *warnings[-2:]])

    def add_mpi_jobs(self) -> None:
        """Have the API server know MPIJobs; their operator does not run."""
        definition = yaml.safe_load(mpi_job_definition().read_text())
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.api("POST", path, definition)

        def is_there() -> bool:
            with contextlib.suppress(urllib.error.HTTPError):
                return bool(self.mpi_jobs() == [])
            return False

        wait_until(is_there)

    def mpi_jobs(self) -> list[dict[str, Any]]:
        """Return the MPIJobs."""
        path = "/apis/kubeflow.org/v2beta1/namespaces/ranks/mpijobs"
        return list(self.api("GET", path)["items"])

    def evict_pod(self, name: str, grace_s: int | None = None) -> None:
        """Evict a pod, as `kubectl drain` does; it is killed after `grace_s`, by default the pod's own time."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": "ranks"},
            "deleteOptions": {} if grace_s is None else {"gracePeriodSeconds": grace_s},
        }
        self.api("POST", f"/api/v1/namespaces/ranks/pods/{name}/eviction", body)

    def restart_api_server(self, away_s: float = 3.0) -> None:
        """End the API server, and start it again some seconds later."""
        process = self._processes.pop("apiserver")
        process.kill()
        process.wait()
        time.sleep(away_s)
        self._start_api_server()

    def pod_file(self, **changes: Any) -> Path:
        """Return a ``pods.yaml`` whose pods see this machine's files; `changes` go into its spec."""
        path = self.folder / f"pods-{secrets.token_hex(4)}.yaml"
        path.write_text(yaml.safe_dump(pod_template(**changes)))
        return path

    def job_pod_file(self, folder: Path, **changes: Any) -> Path:
        """Return a ``pods.yaml`` for notebooks as jobs: pods may write in `folder`, and have this user's rights."""
        template = pod_template(**changes)
        container = template["spec"]["containers"][0]
        container["env"].append({"name": "KUBECONFIG", "value": str(self.kubeconfig)})
        for number, path in enumerate([folder, self.kubeconfig, self.folder / "ca.crt"]):
            name = f"more-{number}"
            template["spec"]["volumes"].append({"name": name, "hostPath": {"path": str(path)}})
            mount = {"name": name, "mountPath": str(path), "readOnly": path != folder}
            container["volumeMounts"].append(mount)
        file = folder / "pods.yaml"
        file.write_text(yaml.safe_dump(template))
        return file

    # -- start --------------------------------------------------------------------------

    def _start(self) -> None:
        self._port = _lasting_port()
        self._make_certificates()
        self._admin = secrets.token_hex(16)
        tokens = {"admin": ("system:masters", self._admin)}
        for name, group in (
            ("eai", "users"),
            (
                "system:kube-controller-manager",
                "system:masters",
            ),  # its controllers have no accounts here
            ("system:kube-scheduler", ""),
            *((f"system:node:{node}", "system:nodes") for node in self.nodes),
        ):
            tokens[name] = (group, secrets.token_hex(16))
        lines = [f'{token},{name},{name},"{group}"' for name, (group, token) in tokens.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        for name, (_, token) in tokens.items():
            self._write_kubeconfig(name, token)
        self._start_etcd()
        self._start_api_server()
        self._start_controllers()
        self._make_images()
        for node in self.nodes:
            self._start_node(node)
        self._make_namespaces()
        wait_until(lambda: len(self._ready_nodes()) == len(self.nodes))

    def _ready_nodes(self) -> list[str]:
        found = self.api("GET", "/api/v1/nodes")["items"]
        return [
            node["metadata"]["name"]
            for node in found
            for each in node["status"].get("conditions", [])
            if (each["type"], each["status"]) == ("Ready", "True")
        ]

    def _start_etcd(self) -> None:
        ports = [_free_port(), _free_port()]
        self._etcd = f"http://127.0.0.1:{ports[0]}"
        peer = f"http://127.0.0.1:{ports[1]}"
        urls = ["--listen-client-urls", self._etcd, "--advertise-client-urls", self._etcd]
        peers = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        more = ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
        self._run("etcd", ["etcd", "--data-dir", str(self.folder / "etcd"), *urls, *peers, *more])

    def _start_api_server(self) -> None:
        folder = self.folder
        words = {
            "etcd-servers": self._etcd,
            "bind-address": "0.0.0.0",  # noqa: S104  a bridge's address, and loopback
            "advertise-address": self.address,
            "secure-port": self._port,
            "tls-cert-file": folder / "server.crt",
            "tls-private-key-file": folder / "server.key",
            "client-ca-file": folder / "ca.crt",
            "kubelet-client-certificate": folder / "client.crt",
            "kubelet-client-key": folder / "client.key",
            "kubelet-certificate-authority": folder / "ca.crt",
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "Node,RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": folder / "accounts.key",
            "service-account-signing-key-file": folder / "accounts.key",
            "service-cluster-ip-range": _SERVICES,
            "disable-admission-plugins": "ServiceAccount",
            "kubelet-preferred-address-types": "InternalIP",
        }
        self._run("apiserver", [str(BUILT / "kube-apiserver"), *_options(words)])

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return bool(self.api("GET", "/readyz") == "ok")
            return False

        wait_until(answers)

    def _start_controllers(self) -> None:
        folder = self.folder
        manager = {
            "kubeconfig": folder / "system:kube-controller-manager.kubeconfig",
            "authentication-kubeconfig": folder / "system:kube-controller-manager.kubeconfig",
            "authorization-kubeconfig": folder / "system:kube-controller-manager.kubeconfig",
            "service-account-private-key-file": folder / "accounts.key",
            "use-service-account-credentials": "false",
            "controllers": "job-controller,garbage-collector-controller,ttl-after-finished-controller,"
            "namespace-controller,node-lifecycle-controller,taint-eviction-controller",
            "leader-elect": "false",
            "secure-port": _free_port(),
            "cert-dir": folder / "manager",
            "node-monitor-grace-period": "20s",
        }
        self._run("controllers", [str(BUILT / "kube-controller-manager"), *_options(manager)])
        scheduler = {
            "kubeconfig": folder / "system:kube-scheduler.kubeconfig",
            "authentication-kubeconfig": folder / "system:kube-scheduler.kubeconfig",
            "authorization-kubeconfig": folder / "system:kube-scheduler.kubeconfig",
            "leader-elect": "false",
            "secure-port": _free_port(),
            "cert-dir": folder / "scheduler",
        }
        self._run("scheduler", [str(BUILT / "kube-scheduler"), *_options(scheduler)])

    def _start_node(self, node: str) -> None:
        folder = self.folder / node
        (folder / "cni").mkdir(parents=True)
        network = {
            "cniVersion": "0.4.0",
            "name": node,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self._bridge(node),
                    "isGateway": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [
                            [{"subnet": str(self._networks[node]), "gateway": self._gateway(node)}]
                        ],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(folder / "addresses"),
                    },
                }
            ],
        }
        (folder / "cni" / "10-eai.conflist").write_text(json.dumps(network))
        (folder / "containerd.toml").write_text(_containerd_settings(folder))
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet_settings(node)))
        words = {
            "config": folder / "kubelet.yaml",
            "kubeconfig": self.folder / f"system:node:{node}.kubeconfig",
            "root-dir": folder / "kubelet",
            "cert-dir": folder / "certificates",
            "hostname-override": node,
            "node-ip": self._gateway(node),
        }
        containerd = shlex.join(["containerd", "--config", str(folder / "containerd.toml")])
        kubelet = shlex.join([str(BUILT / "kubelet"), *_options(words)])
        door = shlex.quote(str(folder / "containerd.sock"))
        both = f"{containerd} & until [ -S {door} ]; do sleep 0.1; done; exec {kubelet}"
        # All that the node starts and mounts is in namespaces of its own, and goes with these.
        alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._run(f"node-{node}", [*alone, "sh", "-c", both])
        wait_until(lambda: self._ctr(node, "version", check=False).returncode == 0)
        for image in ("pause", "files"):
            self._ctr(node, "images", "import", str(self.folder / f"{image}.tar"))

    def _kubelet_settings(self, node: str) -> dict[str, Any]:
        folder = self.folder / node
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{folder / 'containerd.sock'}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.folder / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.folder / "server.crt"),
            "tlsPrivateKeyFile": str(self.folder / "server.key"),
            "address": self._gateway(node),
            "port": _free_port(),
            "healthzPort": 0,
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            # Two kubelets of one machine would remove each other's control groups.
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            "registerNode": True,
            "maxPods": 30,
            "syncFrequency": "5s",
            "nodeStatusUpdateFrequency": "4s",
            "podLogsDir": str(folder / "logs"),
            "resolvConf": "",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi"},
            "volumePluginDir": str(folder / "plugins"),
        }

    def _make_namespaces(self) -> None:
        for name in ("ranks", "closed"):
            self.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        base = "/apis/rbac.authorization.k8s.io/v1/namespaces/ranks"
        from eai_notebook.cluster.kube_jobs.manifests import role

        self.api("POST", f"{base}/roles", role("eai", "ranks", mpi_jobs=True))
        binding = {
            "metadata": {"name": "eai"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "eai"},
            "subjects": [{"kind": "User", "name": "eai", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        self.api("POST", f"{base}/rolebindings", binding)

    # -- parts --------------------------------------------------------------------------

    def _bridge(self, node: str) -> str:
        return f"{node}-br"

    def _gateway(self, node: str) -> str:
        return str(next(self._networks[node].hosts()))

    def _make_bridge(self, node: str) -> None:
        """Give a node a network; its bridge exists before the kubelet, whose address is on it."""
        network = self._networks[node] = free_subnet()
        bridge = self._bridge(node)
        self._remains.add("interfaces", bridge)
        _call("ip", "link", "add", bridge, "type", "bridge")
        _call("ip", "addr", "add", f"{self._gateway(node)}/{network.prefixlen}", "dev", bridge)
        _call("ip", "link", "set", bridge, "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _make_certificates(self) -> None:
        folder = self.folder
        names = ["IP:127.0.0.1", *(f"IP:{self._gateway(node)}" for node in self.nodes)]
        names += [f"DNS:{node}" for node in self.nodes]
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        new += ["-nodes", "-days", "2"]
        ca = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"), "-subj", "/CN=eai"]
        _call(*new, *ca)
        signed = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")]
        for name, subject, usage in (
            ("server", "/CN=server", f"subjectAltName={','.join(names)}"),
            ("client", "/O=system:masters/CN=apiserver", "extendedKeyUsage=clientAuth"),
        ):
            files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
            plain = ["-addext", "basicConstraints=critical,CA:FALSE"]
            _call(*new, *files, "-subj", subject, *plain, "-addext", usage, *signed)
        key = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
        _call("openssl", "genpkey", *key, "-out", str(folder / "accounts.key"))

    def _write_kubeconfig(self, name: str, token: str) -> None:
        cluster = {
            "server": f"https://{self.address}:{self._port}",
            "certificate-authority": str(self.folder / "ca.crt"),
        }
        context = {"cluster": "eai", "user": name, "namespace": "ranks"}
        settings = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "eai", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "eai", "context": context}],
            "current-context": "eai",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(settings))

    def _make_images(self) -> None:
        pause = {"pause": (BUILT / "pause").read_bytes()}
        _write_image(self.folder / "pause.tar", _PAUSE, pause, ["/pause"])
        _write_image(self.folder / "files.tar", IMAGE, {}, [])

    def _ctr(self, node: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        socket_file = str(self.folder / node / "containerd.sock")
        command = ["ctr", "--address", socket_file, "-n", "k8s.io", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": SEARCH}
        )
        if check and done.returncode:
            raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()}")
        return done

    def _run(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PATH": SEARCH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes[name] = process
        self._remains.add("pids", [process.pid, psutil.Process(process.pid).create_time()])


def pod_template(**changes: Any) -> dict[str, Any]:
    """Return a pod that sees this machine's programs, Python, packages and checkout, as they are here."""
    seen = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc"]
    for each in (sys.prefix, sys.base_prefix, str(REPOSITORY), *_package_folders()):
        if not any(Path(each).is_relative_to(known) for known in seen):
            seen.append(each)
    there = [path for path in seen if Path(path).exists()]
    names = {path: f"files-{number}" for number, path in enumerate(there)}
    volumes = [{"name": name, "hostPath": {"path": path}} for path, name in names.items()]
    mounts = [{"name": name, "mountPath": path, "readOnly": True} for path, name in names.items()]
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
    container = {
        "name": "rank",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "workingDir": "/",
        "env": [{"name": name, "value": os.environ[name]} for name in kept if name in os.environ],
        "volumeMounts": mounts,
        **changes.pop("container", {}),
    }
    spec = {"containers": [container], "volumes": volumes, **changes.pop("spec", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": changes, "spec": spec}


def _package_folders() -> list[str]:
    """Return where an editable install has its source, besides this checkout."""
    import importlib.util

    return [
        str(Path(spec.origin).parent.parent)
        for name in ("eai_notebook", "horovod")
        if (spec := importlib.util.find_spec(name)) and spec.origin
    ]


def wait_until(condition: Callable[[], object], seconds: float = _SOON_S) -> None:
    """Return when `condition` holds; fail if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)


def _containerd_settings(folder: Path) -> str:
    return f"""
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[debug]
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def _write_image(path: Path, name: str, files: dict[str, bytes], command: list[str]) -> None:
    """Write an image of one layer, as `docker save` would, for `ctr images import`."""
    import hashlib

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("tmp", "proc", "sys", "dev", "run", "root", "var", "var/tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in folder else 0o755
            tar.addfile(entry)
        for file, data in files.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Entrypoint": command},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {
        "layer.tar": layer.getvalue(),
        "config.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, mode="w") as tar:
        for part, data in parts.items():
            entry = tarfile.TarInfo(part)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _options(words: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in words.items()]


def _free_port() -> int:
    with socket.create_server(("", 0)) as door:
        port: int = door.getsockname()[1]
        return port


def _lasting_port() -> int:
    """Return a free port that no connection gets: a server that is away for some seconds comes back to it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(first // 2, first), 200):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise RuntimeError("no port is free")


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()}")
