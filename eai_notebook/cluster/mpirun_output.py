"""Read and explain the output of ``mpirun`` and its ranks, whatever bytes it holds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST: Final = 700
"""Characters of the output that an error message quotes."""

LEAST_ROOM: Final = 1 << 20
"""Bytes of the folder for temporary files that ``mpirun`` needs to start."""

_RULE: Final = re.compile(r"^[-=*\s]{8,}$")
_WORD: Final = re.compile(r"[A-Za-z]{3}")
_CONSEQUENCE: Final = re.compile(
    r"detected that one or more processes|It looks like \w+ failed for some reason"
)
_INTERNAL: Final = re.compile(r"^\[\S+\] (?:PMIX|PRTE) ERROR: (.+?)(?: in file .*)?$")
_RANK_ERROR: Final = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b(?::|$)")
_LOST: Final = re.compile(
    r"lost communication with a remote daemon.*?Remote daemon:.*? on node (?P<host>\S+)", re.DOTALL
)
_DEATH: Final = re.compile(
    r"process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+)\s+exited on\s+"
    r"signal (?P<signal>\d+)|"
    r"Process name: \[\S+,(?P<rank2>\d+)\]\s+Exit code:\s+(?P<code>\d+)|"
    r"process rank (?P<rank3>\d+) with PID \d+ on node (?P<host3>\S+)\s+exiting\s+improperly",
)
_LEFT_OVER: Final = ("OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_", "PMIX_", "PRTE_", "OMPI_")
_OURS: Final = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")


def read_output(path: str) -> str:
    """Return the text of a log file; bytes that are no UTF-8 come as replacement characters.

    Raises:
        OSError: The file cannot be read.
    """
    return Path(path).read_bytes().decode(errors="replace")


def cause_of_death(log: str) -> str | None:
    """Return which rank died and of what, as ``mpirun`` says in `log`; None if it does not."""
    return next(iter(causes_of_death(log).values()), None)


def causes_of_death(log: str) -> dict[int, str]:
    """Return what each rank died of that `log` reports, by rank, in the order of their deaths.

    Examples:
        >>> line = "process rank 2 with PID 77 on node h1 exited on signal 9"
        >>> causes_of_death(line)
        {2: 'rank 2 on h1 died of SIGKILL'}
    """
    found: dict[int, str] = {}
    for death in _DEATH.finditer(log):
        rank = int(death["rank"] or death["rank2"] or death["rank3"])
        found.setdefault(rank, _in_words(death))
    return found


def notices_of_parents(log: str) -> dict[int, str]:
    """Return what each rank died of last that the ranks' own parents report; see `rank_parent`.

    ``mpirun`` counts ranks that were started later from 0 once more.

    Examples:
        >>> line = "with PID 77 on node h1 exited on signal 9"
        >>> notices_of_parents(f"prterun noticed that process rank 0 {line}")
        {}
        >>> notices_of_parents(f"process rank 4 {line}")
        {4: 'rank 4 on h1 died of SIGKILL'}
    """
    own = re.sub(r"(noticed that|due to)\s+process rank \d+", "", log)
    return {
        int(death["rank"] or death["rank2"] or death["rank3"]): _in_words(death)
        for death in _DEATH.finditer(own)
    }


def _in_words(found: re.Match[str]) -> str:
    if found["rank3"]:  # mpirun speaks so of exit code 0
        where = f"rank {found['rank3']} on {found['host3']}"
        return f"{where} ended its own process with exit code 0, as os._exit(0) does"
    rank = found["rank"] or found["rank2"]
    if found["signal"]:
        name = signal.Signals(int(found["signal"])).name
        return f"rank {rank} on {found['host']} died of {name}"
    return f"rank {rank} ended with exit code {found['code']}"


def lost_host(log: str) -> str | None:
    """Return the host that ``mpirun`` says it has lost; None if it does not."""
    found = _LOST.search(log)
    return found["host"] if found else None


def explain(log: str) -> str:
    r"""Return why ``mpirun`` failed, in its own words or those of a rank, as one paragraph.

    The error of a rank's Python comes first, then the first message that Open MPI has put between
    two rules and that is no mere consequence, then whatever was printed last; empty if nothing
    was.

    Examples:
        >>> explain("-" * 40 + "\nNo room on /tmp.\nMake some.\n" + "-" * 40 + "\n")
        'No room on /tmp. Make some.'
    """
    lines = [line.strip() for line in log.splitlines()]
    errors = [line for line in lines if _RANK_ERROR.match(line)]
    if errors:
        return _shortened(errors[-1])
    before, *messages = [[line for line in block if _WORD.search(line)] for block in _blocks(lines)]
    causes = [block for block in messages if block and not _CONSEQUENCE.search(" ".join(block))]
    internal = [found[1] for line in before if (found := _INTERNAL.match(line))]
    if causes:
        return _shortened(" ".join([*internal[:1], *causes[0]]))
    other = [block for block in messages if block]
    return _shortened(" ".join(other[0] if other else internal[:1] or before[-3:]))


def in_brackets(log: str) -> str:
    """Return the explanation of `log` in brackets; empty if there is none."""
    words = explain(log)
    return f" ({words})" if words else ""


def left_over(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of `environment` that change what Open MPI does, by name."""
    return sorted(
        name for name in environment if name.startswith(_LEFT_OVER) and not name.startswith(_OURS)
    )


def start_remedy() -> str:
    """Return the remedy of a start that failed, by what is unusual on this machine now."""
    folder = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  where mpirun puts its session's files
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < LEAST_ROOM:
            return f"make room in {folder}, or name another folder in TMPDIR"
    names = left_over(os.environ)
    unset = f"unset {', '.join(names)}, which change what MPI does; or " if names else ""
    return f"{unset}run `eai-notebook check`"


def _blocks(lines: list[str]) -> list[list[str]]:
    """Return the lines between rules, each block by itself."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if _RULE.match(line):
            blocks.append([])
        elif line:
            blocks[-1].append(line)
    return blocks


def _shortened(words: str) -> str:
    text = " ".join(words.split())
    return text if len(text) <= MOST else f"{text[:MOST].rsplit(' ', 1)[0]} ..."
