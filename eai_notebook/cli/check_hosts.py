"""`eai-notebook check --hosts`: check each host by itself, then an allreduce over all of them."""

from __future__ import annotations

from collections.abc import Sequence

from eai_notebook.cli.machine_checks import Finding
from eai_notebook.cluster.allreduce_tuning.mpirun_job import run_module
from eai_notebook.cluster.hostfile import Host
from eai_notebook.cluster.preflight import Placement, inspect_hosts
from eai_notebook.collective.self_test import MARK
from eai_notebook.errors import EaiError

_PROBE = "eai_notebook.collective.self_test"


def findings(
    hosts: Sequence[Host], interface: str | None = None, *, prove_horovod: bool = True
) -> list[Finding]:
    """Return the findings about `hosts`; the last one, if all can train, is a sum over all.

    ``prove_horovod`` starts the ranks for that sum, which takes about ten seconds.
    """
    survey = inspect_hosts(hosts, interface)
    found = [
        Finding(f"{each.host} {each.topic}", each.state, each.found, each.remedy)
        for each in survey.findings
    ]
    if survey.placement is not None and prove_horovod:
        found.append(_sum_over(survey.placement))
    return found


def _sum_over(placement: Placement) -> Finding:
    try:
        proof = run_module(placement, {}, [_PROBE], mark=MARK, what="a sum over the hosts")
    except EaiError as error:
        return Finding("all hosts", "fail", error.what, error.remedy)
    found = f"{proof['size']} ranks on {len(placement.hosts)} hosts summed correctly"
    return Finding("all hosts", "ok", f"{found}, over {', '.join(placement.networks)}")
