"""`eai-notebook check`: check that this machine can train, with a remedy for each problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import eai_notebook
from eai_notebook.cli import check_hosts, check_kube, check_slurm
from eai_notebook.cli.machine_checks import Finding, findings
from eai_notebook.cluster.hostfile import parse_hosts
from eai_notebook.errors import EaiError
from eai_notebook.terminal import console

_SIGNS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[bold red]fail[/]"}


def check(  # noqa: PLR0913, PLR0917  # each is an option of the command
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table, for a script.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not try Horovod on two ranks (saves ten seconds).")
    ] = False,
    hosts: Annotated[
        str | None,
        typer.Option(help="Check other hosts instead: h1:2,h2:2, or a hostfile."),
    ] = None,
    interface: Annotated[
        str | None,
        typer.Option(help="This machine's interface or network that the hosts can reach."),
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Check Slurm instead, by a short job of two ranks.")
    ] = False,
    partition: Annotated[str | None, typer.Option(help="The partition to check.")] = None,
    kube: Annotated[
        bool, typer.Option("--kube", help="Check Kubernetes instead, by two ranks in pods.")
    ] = False,
    pods: Annotated[
        str | None, typer.Option(help="The pod template for --kube.", metavar="PODS.YAML")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The pods' image, for --kube.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The pods' namespace, for --kube.")] = None,
    context: Annotated[str | None, typer.Option(help="The context of kubectl, for --kube.")] = None,
) -> None:
    """Check this machine: versions, ranks, cores, memory, GPUs, ports.

    With --hosts: check that ssh reaches each host, that its software is the same, that it reaches
    this machine, and that an allreduce over all of them works. With --slurm: list partitions and
    limits, and run a job of two ranks that checks its nodes and sums. With --kube: ask the API server what
    this account may do, and run two ranks in pods. Each problem has a remedy. The exit code is 1 if training
    will not work, 0 otherwise.
    """
    where = {"--hosts": hosts is not None, "--slurm": slurm, "--kube": kube}
    if sum(where.values()) > 1:
        named = " and ".join(each for each, given in where.items() if given)
        raise EaiError(
            f"{named} are checked one at a time", "leave all but one out", code="launcher-options"
        )
    if kube:
        options = {
            "kube": pods or "",
            "image": image,
            "namespace": namespace,
            "context": context,
            "interface": interface,
        }
        with console.err.status("checking Kubernetes by two ranks in pods"):
            found = check_kube.findings(options, prove_horovod=not quick)
    elif slurm:
        with console.err.status("checking Slurm by a job of two ranks"):
            found = check_slurm.findings(partition, interface, prove_horovod=not quick)
    elif hosts is None:
        with console.err.status("checking this machine"):
            found = list(findings(prove_horovod=not quick))
    else:
        parsed = parse_hosts(hosts)
        with console.err.status(f"checking {len(parsed)} hosts"):
            found = check_hosts.findings(parsed, interface, prove_horovod=not quick)
    if as_json:
        console.out.print_json(
            json.dumps(
                {
                    "version": eai_notebook.__version__,
                    "works": works(found),
                    "checks": [asdict(finding) for finding in found],
                }
            )
        )
    else:
        console.out.print(_table(found))
    raise typer.Exit(0 if works(found) else 1)


def works(found: Sequence[Finding]) -> bool:
    """Return whether nothing that training needs has failed."""
    return all(finding.state != "fail" for finding in found)


def _table(found: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in found:
        text = escape(finding.found)
        if finding.remedy:
            text += f"\n[yellow]-> {escape(finding.remedy)}[/]"
        table.add_row(finding.name, _SIGNS[finding.state], text)
    return table
