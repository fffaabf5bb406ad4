"""The state of a Slurm job, in the text of ``squeue``; the other commands of Slurm that are used.

The text is the same in all versions of Slurm; its JSON is not.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COMMAND_S: Final = 30.0
_FORMAT: Final = "%i|%T|%r|%N|%L|%S|%l"
_QUEUED: Final = ("SUBMITTED", "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
_RUNNING: Final = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING")
_SILENT: Final = re.compile(
    r"[^;:]*(could not establish a configuration source|unable to contact slurm controller|"
    r"connection refused|zero bytes were transmitted)[^;]*",
    re.IGNORECASE,
)
"""What a command says that has not reached Slurm's controller."""
GONE: Final = "GONE"
"""The state of a job that Slurm does not list any more."""


ENDS: Final = {
    "CANCELLED": "was cancelled, by `scancel` or an administrator",
    "TIMEOUT": "reached its time limit",
    "DEADLINE": "reached its deadline",
    "NODE_FAIL": "lost a node, which failed or was set down",
    "PREEMPTED": "was preempted by a job of higher priority",
    "OUT_OF_MEMORY": "used more memory than it had asked for",
    "BOOT_FAIL": "got a node that did not boot",
    "REVOKED": "was revoked",
}
"""Why Slurm ends jobs, by the state that they are in then."""


@dataclass(frozen=True)
class JobState:
    """What ``squeue`` says of a job, at a time `at` (s since 1970)."""

    job: str
    state: str
    reason: str = ""
    nodes: str = ""
    left: str = ""
    start: str = ""
    limit: str = ""
    at: float = 0.0

    @property
    def is_queued(self) -> bool:
        """Whether it waits for its nodes."""
        return self.state in _QUEUED

    @property
    def is_over(self) -> bool:
        """Whether it has ended, for any reason."""
        return self.state not in _QUEUED and self.state not in _RUNNING

    def left_s(self, now: float | None = None) -> float | None:
        """Return the seconds until Slurm ends it; None without a limit."""
        left = seconds(self.left)
        return None if left is None else left - ((time.time() if now is None else now) - self.at)

    def words(self, now: float | None = None) -> str:
        """Return the state in a line.

        Examples:
            >>> JobState("7", "PENDING", "Resources", start="2026-12-01T14:10:00").words()
            'PENDING (Resources), about 14:10'
            >>> JobState("7", "RUNNING", "None", "c[1-4]", "1:52:00", at=1.0).words(now=61.0)
            'RUNNING on c[1-4], 1:51:00 left'
        """
        if self.is_queued:
            reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
            day, _, clock = self.start.partition("T")
            today = time.strftime("%Y-%m-%d", time.localtime(now))
            date = "" if day == today or not _is_soon(self.start, now) else f"{day} "
            return f"{self.state}{reason}" + (f", about {date}{clock[:5]}" if clock else "")
        nodes = f" on {self.nodes}" if self.nodes else ""
        left = self.left_s(now)
        rest = "" if left is None or self.is_over else f", {clock_time(left)} left"
        return f"{self.state}{nodes}{rest}"

    def write(self, file: Path) -> None:
        """Put the state into `file`, for the notebook's process."""
        write_private(file, json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> JobState | None:
        """Return the state in `file`; None if there is none yet."""
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def _is_soon(start: str, now: float | None) -> bool:
    """Return whether a start is on another day than today, if `now` is not given."""
    day = start.partition("T")[0]
    return day != time.strftime("%Y-%m-%d", time.localtime(now)) and now is None


def look(job: str) -> JobState | None:
    """Return the state of `job`; None if Slurm does not answer now."""
    try:
        done = run(["squeue", "-h", "-j", job, "-t", "all", "-o", _FORMAT])
    except EaiError:
        return None
    if done.returncode:
        gone = "invalid job id" in done.stderr.lower()
        return JobState(job, GONE, at=time.time()) if gone else None
    return parse_state(job, done.stdout, time.time())


def parse_state(job: str, text: str, now: float) -> JobState:
    r"""Return the state in the text of ``squeue``.

    Examples:
        >>> parse_state("7", "7|RUNNING|None|n1|1:00|2026-12-01T14:10:00|2:00\n", 0.0).nodes
        'n1'
    """
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == len(_FORMAT.split("|")) and fields[0] == job:
            state, reason, nodes, left, start, limit = fields[1:]
            start = "" if start == "N/A" else start
            return JobState(job, state, reason, nodes, left, start, limit, now)
    return JobState(job, GONE, at=now)


def seconds(text: str) -> float | None:
    """Return the seconds of a time as Slurm writes it; None for no limit.

    Examples:
        >>> seconds("1-02:00:00"), seconds("1:30"), seconds("UNLIMITED")
        (93600.0, 90.0, None)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def limit_seconds(text: str) -> float | None:
    """Return the seconds of a time limit as ``sbatch --time`` takes it; None if it is none.

    Examples:
        >>> limit_seconds("10"), limit_seconds("1:30"), limit_seconds("2:00:00"), limit_seconds("1-2")
        (600.0, 90.0, 7200.0, 93600.0)
    """
    if text.isdigit():
        return int(text) * 60.0
    days, dash, rest = text.partition("-")
    if dash and days.isdigit() and all(part.isdigit() for part in rest.split(":")):
        hours, minutes, left = [*map(int, rest.split(":")), 0, 0][:3]
        return float(((int(days) * 24 + hours) * 60 + minutes) * 60 + left)
    return seconds(text)


def clock_time(left: float) -> str:
    """Return seconds as hours, minutes and seconds.

    Examples:
        >>> clock_time(6720), clock_time(59.4), clock_time(-3)
        ('1:52:00', '0:59', '0:00')
    """
    minutes, rest = divmod(max(0, int(left)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands.

    Raises:
        EaiError: It is not installed here, or does not end.
    """
    try:
        return subprocess.run(
            command,
            env=environment,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=COMMAND_S,
        )
    except FileNotFoundError as error:
        raise EaiError(
            f"there is no command `{command[0]}` on this machine",
            "start the notebook on a machine of the cluster from which jobs are submitted",
            code="slurm-missing",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EaiError(
            f"`{command[0]}` did not answer in {COMMAND_S:.0f} s",
            "see whether Slurm's controller is up: `scontrol ping`",
            code="slurm-silent",
        ) from error


def ask(*command: str) -> str:
    """Return what a command of Slurm prints.

    Raises:
        EaiError: It failed; with its own words.
    """
    done = run(command)
    _refuse_silence(done)
    if done.returncode:
        raise EaiError(
            f"`{' '.join(command)}` failed ({last_words(done)})",
            "see whether Slurm's controller is up: `scontrol ping`",
            code="slurm-failed",
        )
    return done.stdout


def refusal(done: subprocess.CompletedProcess[str], show: str) -> EaiError:
    """Return the error for an ``sbatch`` that has failed; ``show`` prints the script.

    Raises:
        EaiError: It has not reached Slurm.
    """
    _refuse_silence(done)
    return EaiError(
        f"Slurm refuses the job ({last_words(done)})",
        f"`{show}` prints its script; `sinfo` lists partitions and limits",
        code="slurm-refused",
    )


def _refuse_silence(done: subprocess.CompletedProcess[str]) -> None:
    """Raise if a command has not reached Slurm's controller, or does not know where it is."""
    words = last_words(done)
    if done.returncode and (found := _SILENT.search(words)):
        raise EaiError(
            f"Slurm's controller is not reached from this machine ({found[0].strip()})",
            "use a machine of the cluster from which jobs are submitted; `scontrol ping` asks the controller",
            code="slurm-silent",
        )


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return why a command of Slurm failed, without the command's own name before it."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    words = [re.sub(r"^\w+: (?:error: )?", "", line) for line in lines]
    return "; ".join(dict.fromkeys(words)) or "no reason given"


def node_addresses(partition: str | None, most: int = 8) -> dict[str, str]:
    """Return the addresses of some nodes of a partition, by name; of the default one for None."""
    chosen = ["-p", partition] if partition else []
    found: dict[str, Any] = {}
    for line in ask("sinfo", "-h", "-N", *chosen, "-o", "%N %o").splitlines():
        name, _, address = line.partition(" ")
        if address.strip():
            found.setdefault(name, address.strip())
    return dict(list(found.items())[:most])
