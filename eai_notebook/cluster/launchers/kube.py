"""The Kubernetes launcher: ranks in the pods of one job."""

from __future__ import annotations

import contextlib
import getpass
import os
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar, Final

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.client import connection_file
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.kube_jobs.kube_api import KubeApi
from eai_notebook.cluster.kube_jobs.mpi_job import MpiJobs
from eai_notebook.cluster.kube_jobs.notebook_pod import KubeNotebookJobs
from eai_notebook.cluster.kube_jobs.pod_order import PodOrder, PodsState
from eai_notebook.cluster.kube_jobs.pod_patience import WAIT_S
from eai_notebook.cluster.kube_jobs.pod_template import PodTemplate, read_template
from eai_notebook.cluster.launcher import INTERFACE, Launcher, Option
from eai_notebook.cluster.mpirun_output import cause_of_death, lost_host
from eai_notebook.errors import EaiError
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eai_notebook.cluster.batch_system import BatchSystem
    from eai_notebook.cluster.interruptible import Progress
    from eai_notebook.cluster.registry import Entry

_STATE: Final = "kube.json"
PLAIN: Final = ""
"""The value of ``--kube`` without a file."""


class KubeLauncher(Launcher):
    """One job whose pods run the ranks of a group, under an ``mpirun`` in its first pod."""

    name: ClassVar[str] = "kube"
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "kube",
            "in pods of Kubernetes, made of this pod template",
            metavar="PODS.YAML",
            bare=PLAIN,
        ),
        Option("image", "the pods' image (default: this pod's, or the template's)", metavar="I"),
        Option("namespace", "the namespace of the pods", metavar="NAME"),
        Option("context", "the context of kubectl to use", metavar="NAME"),
        Option("gpus_per_pod", "GPUs of each pod, a rank each", metavar="G", type=int),
        Option(
            "ranks_per_pod", "ranks of each pod (default: 1, or one a GPU)", metavar="R", type=int
        ),
        Option(
            "pod_wait",
            "seconds that pods may wait for a node (default: 600)",
            metavar="S",
            type=float,
        ),
        Option("mpijob", "a notebook's job as an MPIJob of Kubeflow's mpi-operator", flag=True),
        INTERFACE,
    )
    selected_by: ClassVar[str | None] = "kube"
    is_away: ClassVar[bool] = True

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        self._api: KubeApi | None = None
        self._address: str | None = None
        self._file: Path | None = None
        self._keys = ""
        super().__init__(size, options)
        self.template = self._read_template()
        """What pods are to be."""
        self._per_pod = int(self.given.get("ranks_per_pod") or self.template.gpus or 1)
        if self._per_pod < 1:
            raise EaiError(
                f"{self._per_pod} ranks in a pod are not possible",
                "ask for 1 or more",
                code="group-size",
            )

    def choose_size(self, size: int | None) -> int:
        """Return the number asked for."""
        if size is None:
            raise EaiError(
                "a group in pods needs a number of ranks",
                "say it: `%eai up -n 4 --kube`",
                code="group-size",
            )
        return size

    def _read_template(self) -> PodTemplate:
        file = self.given.get("kube")
        if isinstance(file, str) and file != PLAIN:  # for a restart in another folder
            file = self.given["kube"] = str(Path(file).expanduser().absolute())
        return read_template(
            file if isinstance(file, str) and file != PLAIN else None,
            self.given.get("image"),
            self.given.get("gpus_per_pod"),
        )

    @property
    def pods(self) -> int:
        """How many pods there are."""
        return -(-self.size // self._per_pod)

    @property
    def place(self) -> str:
        """Kubernetes, and how many pods."""
        return f"kube {self.pods}"

    # -- before a start -----------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        """Ask Kubernetes whether it would admit the job, and choose the address for the way back."""
        self._refuse_mpi_job()
        progress("asking Kubernetes")
        self._api = api = self._connect()
        self._check_rights(api)
        self._address = api.address_for_pods(self.given.get("interface"))
        api.create_job(self._manifest("eai-try", "try"), dry_run=True)

    def _refuse_mpi_job(self) -> None:
        if self.given.get("mpijob"):
            raise EaiError(
                "a group that a notebook uses directly cannot be an MPIJob",
                "leave --mpijob out, or run the notebook as a job: `eai-notebook run --kube --mpijob`",
                code="kube-mpijob",
            )

    def _connect(self) -> KubeApi:
        """Return the API; the template has an image from now on."""
        api = KubeApi(self.given.get("context"), self.given.get("namespace"))
        container = self.template.container
        if "image" not in container:
            image = api.own_image()
            if image is None:
                raise EaiError(
                    "no image is named for the pods",
                    "name one in pods.yaml or with --image; it has the packages of this notebook",
                    code="kube-image",
                )
            container["image"] = image
        return api

    def _check_rights(self, api: KubeApi) -> None:
        missing = [
            f"{verb} {resource}"
            for group, resource, verb in needed_rights()
            if not api.may(verb, resource, group)
        ]
        if missing:
            raise EaiError(
                f"{api.account} may not {', '.join(missing)} in namespace {api.namespace}",
                "`eai-notebook kube manifests` prints the Role that an administrator grants",
                code="kube-refused",
            )

    def batch_system(self) -> BatchSystem:
        """Return what runs a notebook in a pod, which starts the group's pods; or in an MPIJob."""
        if self.given.get("mpijob"):
            return self._mpi_jobs()
        # The template has GPUs and image already; a context is of this machine.
        kept = ("ranks_per_pod", "namespace", "pod_wait")
        group = {name: self.given[name] for name in kept if self.given.get(name)}
        return KubeNotebookJobs(self.template, group, _user(), self._connect)

    def _mpi_jobs(self) -> MpiJobs:
        if self.size % self._per_pod:
            raise EaiError(
                f"{self.size} ranks do not fill pods of {self._per_pod}, as those of an MPIJob are",
                "ask for a multiple, or for another --ranks-per-pod",
                code="group-size",
            )
        wait_s = float(self.given.get("pod_wait", WAIT_S))
        return MpiJobs(self.template, self.pods, self._per_pod, _user(), wait_s, self._connect)

    def _manifest(self, name: str, group: str) -> dict[str, Any]:
        return manifests.job(name, group, self.pods, self.template)

    def describe(self) -> str:
        """Return the manifests, as ``%eai up --show`` prints them."""
        self._refuse_mpi_job()
        name = manifests.job_name(_user(), "NAME")
        files = {
            manifests.SETTINGS: "(written at the start)",
            manifests.KEYS: "(written at the start)",
        }
        secret = manifests.secret(name, "(of the job)", {})
        secret = {
            **{key: value for key, value in secret.items() if key != "data"},
            "stringData": files,
        }
        return manifests.as_yaml(self._manifest(name, "NAME"), secret)

    # -- a start ------------------------------------------------------------------------

    @property
    def controller_address(self) -> str | None:
        """The address that pods connect to."""
        return self._address

    @contextlib.contextmanager
    def rank_files(self, entry: Entry) -> Iterator[str]:
        """Have the connection file go along in the job's Secret, which pods mount."""
        self._keys = str(connection_file(entry, "engine"))
        yield f"{manifests.FOLDER}/{manifests.KEYS}"

    def environment(self) -> dict[str, str]:
        """Return nothing: the ranks' environment is made in their pods."""
        return {}

    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:
        """Return the process that creates, follows and deletes the job."""
        file = entry.folder / "order.json"
        order = self._order(entry.name)
        replace(order, rank=list(rank), state=str(entry.folder / _STATE), keys=self._keys).write(
            file
        )
        return module_command("eai_notebook.cluster.kube_jobs.pod_runner", str(file))

    def _order(self, group: str) -> PodOrder:
        return PodOrder(
            job=self._manifest(manifests.job_name(_user(), group), group),
            size=self.size,
            per_pod=self._per_pod,
            address=str(self._address),
            folder=str(Path.cwd()),
            context=self.given.get("context"),
            namespace=self.given.get("namespace"),
            wait_s=float(self.given.get("pod_wait", WAIT_S)),
            lease_s=self.template.lease_s,
            cores=self.template.cores,
        )

    def trial_order(self) -> PodOrder:
        """Return the order of a short job of such pods; `prepare` has been called."""
        return self._order(f"check-{token_hex(3)}")

    def started(self, entry: Entry) -> None:
        """Read the pods' state from now on."""
        self._file = entry.folder / _STATE

    @property
    def state(self) -> PodsState | None:
        """The pods' state as it was last looked up; None before the job is made."""
        return None if self._file is None else PodsState.read(self._file)

    @property
    def is_queued(self) -> bool:
        """Whether pods wait for nodes or images."""
        state = self.state
        return state is None or state.phase in ("submitted", "waiting")

    def progress(self, registered: int) -> str:
        """Return the pods' state, then how many ranks are up."""
        state = self.state
        if state is None:
            return "creating the pods"
        if state.phase == "starting":
            return f"{self.pods} pods run; {super().progress(registered)}"
        return state.words or f"job {state.job}"

    def start_note(self) -> str:
        """Return where the group runs."""
        state = self.state
        return "" if state is None else f"{self.pods} pods of job {state.job}"

    # -- while it runs, and after -------------------------------------------------------

    def explain_exit(self, log: str) -> str | None:
        """Return which pod ended of what, or which rank died in pods that all live."""
        state = self.state
        ours = [line.removeprefix(OURS) for line in log.splitlines() if line.startswith(OURS)]
        if ours:
            return "; ".join(dict.fromkeys(ours))
        if state is not None and state.phase != "over":
            return None  # a death may be a pod's end, whose reason is yet to be looked up
        if found := cause_of_death(log):
            return found
        host = lost_host(log)
        return f"pod {host} was lost (its node went down, or its network did)" if host else None

    def end(self) -> None:
        """Delete a job that its runner has left."""
        state = self.state
        if state is not None and state.phase != "over":
            with contextlib.suppress(EaiError):
                api = self._api or KubeApi(self.given.get("context"), self.given.get("namespace"))
                api.delete_job(state.job)
        self._file = None

    def status(self) -> list[str]:
        """Return a line for the job, and one for each pod."""
        state = self.state
        if state is None:
            return []
        words = f" ({state.words})" if state.words else ""
        lines = [f"  Kubernetes job {state.job}{words}"]
        return lines + [f"    {name}: {words}" for name, words in state.pods]


def needed_rights() -> list[tuple[str, str, str]]:
    """Return what a group cannot do without: group of the API, resource, verb."""
    needed = {"jobs", "secrets", "pods"}
    return [
        (group, resource, verb)
        for group, resource, verbs in manifests.RIGHTS
        if resource in needed
        for verb in verbs
    ]


def _user() -> str:
    """Return whose group it is, for the job's name."""
    try:
        return os.environ.get("JUPYTERHUB_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container that runs as a user it does not know
        return "user"
