"""The script of a group's job: what ``sbatch`` is asked for, and the ``mpirun`` that it runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.forwarding import KNOWN, MORE, extra_names
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite

OUTPUT: Final = "output.log"
ALIVE: Final = "alive"
SCRIPT: Final = "job.sh"
QUESTION: Final = "question.json"
KEYS: Final = "connection.json"
ENDED: Final = "eai: the ranks ended with"
"""What the script prints last."""

_USER: Final = frozenset(
    [
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "SLURM_CONF",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "MODULEPATH",
        "MODULESHOME",
        "LMOD_CMD",
        "LMOD_DIR",
        "EAI_SLURM_TOML",
    ]
)


@dataclass(frozen=True)
class JobRequest:
    """What a job asks Slurm for; times and names as ``sbatch`` takes them."""

    size: int
    name: str = "eai"
    partition: str | None = None
    time: str | None = None
    nodes: int | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    account: str | None = None
    qos: str | None = None
    more: tuple[str, ...] = field(default=())
    requeue: bool = False
    """Whether it may be queued again."""

    def for_notebook(self, name: str, *options: str) -> JobRequest:
        """Return the request for a whole notebook, with `options` that the user's own may replace."""
        return replace(self, name=name, more=(*options, *self.more), requeue=True)

    def options(self, site: SlurmSite) -> list[str]:
        """Return the options of ``sbatch``, one a line of the script.

        Examples:
            >>> from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite
            >>> JobRequest(8, gpus_per_node=4, time="1:00:00").options(SlurmSite())
            ['--job-name=eai', '--ntasks=8', '--ntasks-per-node=4', '--time=1:00:00', \
'--gpus-per-node=4', '--no-requeue']
        """
        asked = {
            "job-name": self.name,
            "ntasks": self.size,
            "nodes": self.nodes,
            "ntasks-per-node": self._per_node(),
            "partition": self.partition,
            "time": self.time,
            "gpus-per-node": self.gpus_per_node,
            "cpus-per-task": self.cpus_per_task,
            "account": self.account,
            "qos": self.qos,
        }
        own = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        # A group that is queued again would wait for a notebook that has given it up.
        own += ["--requeue" if self.requeue else "--no-requeue"]
        kept = [each for each in own if not any(_is(each, drop) for drop in site.drop)]
        return [*kept, *site.options, *self.more]

    def _per_node(self) -> int | None:
        """Return the ranks of a node: one a GPU, or an equal share."""
        if self.gpus_per_node:
            return self.gpus_per_node
        return -(-self.size // self.nodes) if self.nodes else None


def _is(option: str, named: str) -> bool:
    """Return whether an option with its value is the one that is `named`."""
    return option == named or option.startswith(f"{named.rstrip('=')}=")


def job_script(
    request: JobRequest, site: SlurmSite, folder: Path, rank: Sequence[str], work: Path
) -> str:
    """Return the script: it checks the nodes, then starts ``request.size`` processes `rank`.

    ``folder`` is shared by this machine and all nodes; ``work`` is the folder that ranks run in. No
    line holds a key, or a value of the notebook's environment.
    """
    lines = [f"#SBATCH {option}" for option in request.options(site)]
    check = module_command("eai_notebook.cluster.slurm_jobs.node_check", str(folder))
    lease = module_command(
        "eai_notebook.cluster.slurm_jobs.job_lease", str(folder / ALIVE), str(site.lease_s)
    )
    mpirun = [find_mpirun(), "-n", str(request.size)]
    prefix = ["--prefix", str(Path(find_mpirun()).resolve().parent.parent)]
    plain = ["--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE", "--wdir", str(work)]
    # Daemons are steps of the job: they share its resources with the step that may have started us.
    steps = ["--prtemca", "plm_slurm_args", "--overlap"]
    return "\n".join(
        [
            f"#!/bin/bash{' -l' if site.lines else ''}",  # a login shell knows `module`
            *lines,
            f"#SBATCH --output={folder / OUTPUT}",
            "#SBATCH --open-mode=append",
            "",
            f"cd {shlex.quote(str(work))} || {{ echo '{OURS}there is no folder {work} on this node'; exit 9; }}",
            *site.lines,
            "# All nodes: the same software, and a way back to the notebook. It prints the settings of MPI.",
            f"settings=$({shlex.join(check)}) || exit 9",
            'eval "$settings"',
            "",
            f"{shlex.join([*mpirun, *prefix, *plain, *steps])} $EAI_NETWORK_ARGUMENTS \\",
            f"    {shlex.join(rank)} &",
            "ranks=$!",
            "# Ends the ranks when nobody follows this job any more, as after a crash of the notebook's machine.",
            f'{shlex.join(lease)} "$ranks" &',
            "# Slurm's SIGTERM comes to all processes at once; the script must outlive mpirun, which ends the ranks.",
            """trap 'kill -TERM "$ranks" 2>/dev/null' TERM""",
            'wait "$ranks"',
            "code=$?",
            'while kill -0 "$ranks" 2>/dev/null; do wait "$ranks"; code=$?; done',
            f'echo "{ENDED} $code"',
            'exit "$code"',
            "",
        ]
    )


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environment` that ``sbatch`` may see: Slurm sends all of it to the nodes.

    Slurm's messages are signed and not encrypted, and a job's environment lies on its controller. So
    only settings with known names go along, those that `EAI_FORWARD` names, and the user's own
    settings of ``sbatch``.
    """
    names = KNOWN | _USER | extra_names(environment.get(MORE, ""))
    return {
        name: value
        for name, value in environment.items()
        if name in names or name.startswith("SBATCH_")
    }
