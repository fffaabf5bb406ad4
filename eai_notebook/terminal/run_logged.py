"""Run a long command with its output in a log file."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def run_logged(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> int:
    """Run `command`, append its output to `log`, and return its exit status.

    The command runs in its own process group, which is ended if this call raises: otherwise a
    compiler started by a build tool would outlive Ctrl-C. `on_line` receives each line without
    its newline.

    Raises:
        FileNotFoundError: The program does not exist.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(env) if env is not None else None,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101  PIPE was asked for
        try:
            for line in process.stdout:
                kept.write(line)
                kept.flush()
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:
            end_group(process.pid)
            raise


def end_group(pid: int) -> None:
    """End the process group that `pid` leads; one that is already gone is fine."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tail(log: Path, lines: int = 20) -> str:
    """Return the last `lines` lines of `log`, blank ones left out."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
