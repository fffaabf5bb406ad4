"""Parse the hosts of a group: ``h1:2,h2:2``, or a file of such lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterable

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._@][A-Za-z0-9._@-]*)(?:(?::|\s+slots\s*=\s*)(?P<slots>\d+))?"
)
_IPV6 = re.compile(r"^\s*\[?[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.%\w]*\]?")
_LIKE = "write it as `h1:2,h2:2`, or as a file with a line `h1 slots=2` for each host"


@dataclass(frozen=True)
class Host:
    """A host as ssh knows it, and how many ranks it gets."""

    name: str
    slots: int


MOST_SLOTS: Final = 4096
"""Ranks of one host: more are a slip of the pen, or somebody's wish to fill the memory."""


def parse_hosts(text: str | Iterable[str]) -> tuple[Host, ...]:
    """Return the hosts that `text` names: a list in one line, or the path of a hostfile.

    A host without a number gets one rank. A hostfile has a host a line, as Open MPI
    writes it, and comments after ``#``.

    Raises:
        EaiError: an entry cannot be read or is an IPv6 address, a host is named twice or gets no rank.

    Examples:
        >>> parse_hosts("gpu1:8, gpu2:8")
        (Host(name='gpu1', slots=8), Host(name='gpu2', slots=8))
    """
    if isinstance(text, str):
        entries = _from_file(text) or [entry.strip() for entry in text.split(",")]
    else:
        entries = list(text)
    hosts = tuple(_parse_one(entry) for entry in entries)
    names = [host.name for host in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EaiError(
            f"{twice[0]} is named twice", f"add its ranks up: `{twice[0]}:4`", code="hosts-invalid"
        )
    return hosts


def _from_file(text: str) -> list[str]:
    """Return the entries of the hostfile that `text` is the path of; none if it is no file."""
    path = Path(text).expanduser()
    if not path.is_file():
        if "/" in text:
            raise EaiError(f"there is no hostfile {text}", _LIKE, code="hosts-invalid")
        return []
    lines = [
        line.partition("#")[0].strip()
        for line in path.read_text("utf-8-sig", "replace").splitlines()
    ]
    entries = [line for line in lines if line]
    if not entries:
        raise EaiError(f"the hostfile {text} names no host", _LIKE, code="hosts-invalid")
    return entries


def _parse_one(entry: str) -> Host:
    found = _ENTRY.fullmatch(entry.strip())
    if not found and _IPV6.search(entry):
        what = f"`{entry}` is an IPv6 address, and ranks and notebook talk over IPv4"
        raise EaiError(
            what,
            "name the host by its IPv4 address, or by a name that has one",
            code="hosts-invalid",
        )
    if not found:
        raise EaiError(
            f"`{entry}` is no host with its number of ranks", _LIKE, code="hosts-invalid"
        )
    slots = int(found["slots"] or 1)
    if slots < 1:
        raise EaiError(
            f"{found['name']} gets no rank",
            "give it one or more, or leave it out",
            code="hosts-invalid",
        )
    if slots > MOST_SLOTS:
        remedy = "correct the number: it is the ranks that run on this host"
        what = f"{found['name']} gets {slots:,} ranks, more than {MOST_SLOTS:,}"
        raise EaiError(what, remedy, code="hosts-invalid")
    return Host(found["name"], slots)
