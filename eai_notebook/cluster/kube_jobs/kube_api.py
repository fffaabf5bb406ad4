"""`KubeApi`: the few calls of Kubernetes' API that a group needs, with errors in the user's words.

The account is the current context's of ``kubectl``, or else the pod's own that this process runs in. The
client library is loaded here only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from eai_notebook.cluster.preflight import controller_address
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S: Final = (5.0, 20.0)
"""How long the API may take to be reached, and to answer."""
_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MPI_JOBS: Final = ("kubeflow.org", "v2beta1", "mpijobs")
_NOWHERE: Final = "192.0.2.1"
"""An address of no machine: the way to it is the default route."""


class KubeApi:
    """One namespace of a cluster.

    Args:
        context: A context of the user's ``kubeconfig``; None for the current one.
        namespace: None for that of the context, or of the pod that this process runs in.

    Raises:
        EaiError: The client library is missing, or there are no settings to use it with.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise EaiError(
                f"the Python client of Kubernetes is missing ({error})",
                "install it with `pip install 'eai_notebook[kube]'`",
                code="kube-client-missing",
            ) from error
        settings = client.Configuration()
        files = os.environ.get("KUBECONFIG", str(Path("~/.kube/config").expanduser()))
        self.account = "the pod's own account"
        found = str(_NAMESPACE.read_text().strip()) if _NAMESPACE.exists() else "default"
        try:
            if context or any(Path(each).exists() for each in files.split(os.pathsep) if each):
                config.load_kube_config(
                    config_file=files, context=context, client_configuration=settings
                )
                every, active = config.list_kube_config_contexts(config_file=files)
                used = next((each for each in every if each["name"] == context), active)
                found = used["context"].get("namespace", "default")
                self.account = f"context {used['name']}"
            else:
                config.load_incluster_config(client_configuration=settings)
        except (config.ConfigException, OSError, KeyError, TypeError) as error:
            raise EaiError(
                f"there is no way to a Kubernetes cluster ({error})",
                "make `kubectl get pods` work here, or run the notebook in a pod with an account",
                code="kube-unreachable",
            ) from error
        settings.retries = False
        self.namespace = namespace or found
        self.server = settings.host
        self._client = client
        self._errors = client.ApiException
        self._connection = client.ApiClient(settings)
        self._core = client.CoreV1Api(self._connection)
        self._batch = client.BatchV1Api(self._connection)
        self._custom = client.CustomObjectsApi(self._connection)

    # -- calls --------------------------------------------------------------------------

    def version(self) -> str:
        """Return the version of the API server."""
        found = self._call(self._client.VersionApi(self._connection).get_code)
        return str(found["gitVersion"])

    def create_job(self, job: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create a job; with `dry_run` only ask whether the server would admit it."""
        more = {"dry_run": "All"} if dry_run else {}
        found: dict[str, Any] = self._call(
            self._batch.create_namespaced_job, self.namespace, job, **more
        )
        return found

    def create_secret(self, secret: dict[str, Any]) -> None:
        """Create a Secret."""
        self._call(self._core.create_namespaced_secret, self.namespace, secret)

    def job(self, name: str) -> dict[str, Any] | None:
        """Return a job; None if there is none."""
        try:
            found: dict[str, Any] = self._call(
                self._batch.read_namespaced_job, name, self.namespace
            )
        except _MissingError:
            return None
        return found

    def delete_job(self, name: str) -> None:
        """Delete a job, and with it all that it owns; one that is gone is no error."""
        with contextlib.suppress(_MissingError):
            self._call(
                self._batch.delete_namespaced_job,
                name,
                self.namespace,
                propagation_policy="Background",
            )

    def create_mpi_job(self, job: dict[str, Any]) -> None:
        """Create an MPIJob; a field that its operator does not know is refused.

        Raises:
            EaiError: It is refused, or the cluster has no such jobs.
        """
        try:
            self._call(
                self._custom.create_namespaced_custom_object,
                *_MPI_JOBS[:2],
                self.namespace,
                _MPI_JOBS[2],
                job,
                field_validation="Strict",
            )
        except _MissingError as error:
            raise EaiError(
                f"the cluster has no MPIJobs of kubeflow.org/v2beta1 ({error.what})",
                "leave --mpijob out, or ask an administrator for Kubeflow's mpi-operator",
                code="kube-refused",
            ) from error

    def mpi_job(self, name: str) -> dict[str, Any] | None:
        """Return an MPIJob; None if there is none."""
        read = self._custom.get_namespaced_custom_object
        try:
            found: dict[str, Any] = self._call(
                read, *_MPI_JOBS[:2], self.namespace, _MPI_JOBS[2], name
            )
        except _MissingError:
            return None
        return found

    def delete_mpi_job(self, name: str) -> None:
        """Delete an MPIJob; one that is gone is no error."""
        delete = self._custom.delete_namespaced_custom_object
        with contextlib.suppress(_MissingError):
            self._call(delete, *_MPI_JOBS[:2], self.namespace, _MPI_JOBS[2], name)

    def pods(self, job: str, label: str = "job-name") -> list[dict[str, Any]]:
        """Return the pods of a job, in the order of their indices; ``label`` holds the job's name."""
        found = self._call(
            self._core.list_namespaced_pod, self.namespace, label_selector=f"{label}={job}"
        )
        return sorted(found["items"], key=pod_index)

    def own_image(self) -> str | None:
        """Return the image of the pod that this process runs in; None elsewhere or without rights."""
        if "KUBERNETES_SERVICE_HOST" not in os.environ or not _NAMESPACE.exists():
            return None
        try:
            pod = self._call(
                self._core.read_namespaced_pod, socket.gethostname(), _NAMESPACE.read_text().strip()
            )
        except EaiError:
            return None
        return str(pod["spec"]["containers"][0]["image"])

    def last_warning(self, pod: str) -> str:
        """Return the latest warning about a pod; empty if there is none or it may not be read."""
        try:
            found = self._call(
                self._core.list_namespaced_event,
                self.namespace,
                field_selector=f"involvedObject.name={pod},type=Warning",
            )
        except EaiError:
            return ""
        events = sorted(found["items"], key=lambda each: each["metadata"]["creationTimestamp"])
        return f"{events[-1]['reason']}: {events[-1]['message']}" if events else ""

    def last_line(self, pod: str, *, previous: bool = False) -> str:
        """Return the last line that a pod's program has printed; empty if it is not to be had."""
        try:
            found = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                tail_lines=20,
                previous=previous,
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
            )
        except Exception:  # noqa: BLE001  a log is an extra: whatever the client raises
            return ""
        lines = found.data.decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def may(self, verb: str, resource: str, group: str = "", part: str = "") -> bool:
        """Return whether this account may use `verb` on a resource of the namespace."""
        attributes = {
            "namespace": self.namespace,
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": part,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        asked = self._client.AuthorizationV1Api(self._connection)
        found = self._call(asked.create_self_subject_access_review, body)
        return bool(found["status"]["allowed"])

    def address_for_pods(self, interface: str | None) -> str:
        """Return this machine's address that pods are to connect to.

        It is the one on the way to the API server, or by the default route where that server is on this
        machine's loopback.
        """
        host = urlsplit(self.server).hostname or ""
        try:
            server = str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])
        except OSError:
            server = _NOWHERE
        for target in (server, _NOWHERE):
            found = controller_address({"": target}, interface)
            if interface is not None or not found.startswith("127."):
                return found
        raise EaiError(
            "this machine has no address that pods could connect to",
            "name one with --interface, or run the notebook inside the cluster",
            code="kube-no-way-back",
        )

    def _call(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        import urllib3

        try:
            answer = function(
                *arguments, **settings, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            return json.loads(answer.data)  # read here: a server that ends cuts it
        except self._errors as error:
            raise _refusal(error.status, error.body or error.reason) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise EaiError(
                f"the API server {self.server} does not answer ({_cause(error)})",
                "see whether `kubectl get pods` works",
                code="kube-unreachable",
            ) from error


class _MissingError(EaiError):
    """There is no such object."""


def _refusal(status: int | None, body: Any) -> EaiError:
    """Return the error for an answer of the API that is no success."""
    try:
        words = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        words = str(body)
    if status == 404:  # noqa: PLR2004
        return _MissingError(words, "", code="kube-refused")
    if status == 401:  # noqa: PLR2004
        return EaiError(
            f"the API server does not know this account ({words})",
            "log in again, as for `kubectl`",
            code="kube-unreachable",
        )
    remedy = "`%eai up ... --show` prints what would be created"
    if status == 403:  # noqa: PLR2004
        remedy = "`eai-notebook kube manifests` prints the Role that an administrator grants"
    return EaiError(f"Kubernetes refuses it ({words})", remedy, code="kube-refused")


def _cause(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(error).__name__


def pod_index(pod: dict[str, Any]) -> int:
    """Return the index of a pod in its job."""
    metadata = pod["metadata"]
    found = metadata.get("annotations", {}).get("batch.kubernetes.io/job-completion-index", "0")
    return int(found)
