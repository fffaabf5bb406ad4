"""`eai-notebook kube`: what a group in pods consists of, printed for its user and an administrator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eai_notebook.cli.command_app import CommandApp
from eai_notebook.cluster.kube_jobs import manifests
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.terminal import console

kube = CommandApp(name="kube", no_args_is_help=True, help="Groups in pods of Kubernetes.")


@kube.callback()
def _kube() -> None:
    """Groups in pods of Kubernetes."""


@kube.command("manifests")
def print_manifests(
    template: Annotated[
        Path | None, typer.Argument(metavar="[PODS.YAML]", help="The pod template.")
    ] = None,
    size: Annotated[int, typer.Option("-n", help="How many ranks.")] = 2,
    image: Annotated[str | None, typer.Option(help="The pods' image.")] = None,
    namespace: Annotated[str, typer.Option(help="The namespace of the Role.")] = "default",
    *,
    mpijob: Annotated[
        bool, typer.Option("--mpijob", help="A Role that also allows notebooks as MPIJobs.")
    ] = False,
) -> None:
    """Print the job and the Secret of a group, and the Role that its user needs.

    Nothing is created. An administrator grants the Role with `kubectl create rolebinding`; the rest is
    what `%eai up --kube` creates.
    """
    options = {"kube": str(template) if template else "", "image": image}
    text = make_launcher(size, options, "kube").describe()
    role = manifests.as_yaml(manifests.role("eai-notebook", namespace, mpi_jobs=mpijob))
    console.out.print(f"{text}---\n{role}", markup=False, highlight=False, soft_wrap=True)
