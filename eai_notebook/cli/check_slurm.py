"""`eai-notebook check --slurm`: may I submit, what are the limits, and do two ranks of a job sum?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs

from eai_notebook.cli.machine_checks import Finding
from eai_notebook.cluster.preflight import controller_address
from eai_notebook.cluster.slurm_jobs import job_queue
from eai_notebook.cluster.slurm_jobs.job_script import JobRequest
from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite, read_site, settings_files
from eai_notebook.cluster.slurm_jobs.trial_job import run_in_job
from eai_notebook.collective.self_test import MARK
from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder

_PROBE = "eai_notebook.cluster.slurm_jobs.job_probe"
WAIT_S = 180.0
"""How long the job of the check may wait for nodes."""


def findings(
    partition: str | None = None, interface: str | None = None, *, prove_horovod: bool = True
) -> list[Finding]:
    """Return the lines about Slurm; the first failure ends them.

    ``prove_horovod`` runs a job of two ranks, which takes as long as the queue is.
    """
    found: list[Finding] = []
    try:
        _collect(found, partition, interface, prove_horovod=prove_horovod)
    except EaiError as error:
        found.append(Finding("Slurm", "fail", error.what, error.remedy))
    return found


def _collect(
    found: list[Finding], partition: str | None, interface: str | None, *, prove_horovod: bool
) -> None:
    found.append(Finding("Slurm", "ok", job_queue.ask("sinfo", "--version").strip()))
    found.extend(_partitions(partition))
    site = read_site()
    files = [str(file) for file in settings_files() if file.is_file()]
    found.append(Finding("site file", "ok", ", ".join(files) or "none"))
    nodes = job_queue.node_addresses(partition)
    address = controller_address(dict(nodes), interface)
    found.append(Finding("way back", "ok", f"nodes connect to {address}; --interface changes it"))
    folder = site.folder or platformdirs.user_cache_path("eai-notebook") / "jobs"
    private_folder(folder)
    found.append(Finding("folder", "ok", f"{folder}, which all nodes must share"))
    if prove_horovod:
        found.extend(_sum_in_a_job(partition, site, folder, address, min(2, len(nodes))))


def _partitions(partition: str | None) -> list[Finding]:
    chosen = ["-p", partition] if partition else []
    lines = job_queue.ask("sinfo", "-h", *chosen, "-o", "%P|%a|%L|%l|%D|%c|%G").splitlines()
    if not lines:
        raise EaiError(
            f"there is no partition {partition}", "`sinfo` lists them", code="slurm-refused"
        )
    found = []
    for line in dict.fromkeys(lines):
        name, state, usual, most, nodes, cores, gpus = line.strip().split("|")
        words = f"{nodes} nodes of {cores} cores, GPUs {gpus.replace('(null)', 'none')}; "
        words += f"at most {most}, {usual} if no --time is given"
        up = state == "up"
        remedy = "" if up else "use another partition"
        found.append(Finding(f"partition {name}", "ok" if up else "note", words, remedy))
    return found


def _sum_in_a_job(
    partition: str | None, site: SlurmSite, folder: Path, address: str, nodes: int
) -> list[Finding]:
    request = JobRequest(2, "eai-check", partition=partition, nodes=nodes, time="5")
    try:
        proof = run_in_job(request, site, folder, address, _PROBE, mark=MARK, patience=WAIT_S)
    except EaiError as error:
        return [Finding("job", "fail", error.what, error.remedy)]
    where = f"{nodes} node{'s' * (nodes > 1)}"
    words = f"{proof['size']} ranks on {where} have the same files, and summed correctly"
    return [Finding("job", "ok", words), listens(proof)]


def listens(proof: dict[str, Any]) -> Finding:
    """Return where the job's programs listen: `proof` is what `job_probe` has found."""
    programs = sorted(proof["listens"].items())
    words = "; ".join(f"{name} on {', '.join(places)}" for name, places in programs if places)
    if not proof["open_ranks"]:
        return Finding("listening", "ok", words or "nowhere: the ranks share a node")
    ranks = ", ".join(map(str, proof["open_ranks"]))
    remedy = (
        "install a C compiler (cc) on the nodes, or see that only the cluster reaches their ports"
    )
    found = f"on all interfaces, without a key, on the nodes of ranks {ranks} ({words})"
    return Finding("listening", "note", found, remedy)
