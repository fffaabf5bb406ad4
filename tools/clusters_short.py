"""Run the tests with Slurm and Kubernetes that every change must pass, where this machine can have these.

A lack is no failure: a line says what is skipped, and why. Nothing waits without end: each preparation has a patience,
and a test that has not begun when the time is over is skipped.

    python tools/clusters_short.py --seconds 900
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
TITLES: Final = {"slurm": "Slurm", "kube": "Kubernetes"}
PREPARATIONS: Final = {"slurm": "tools/slurm", "kube": "tools/kubernetes"}
PATIENCE_S: Final = {"slurm": 240.0, "kube": 600.0}
"""How long packages may take to be installed, and Kubernetes to be built from its module."""
TRIAL_S: Final = 150.0
"""How long a cluster may take to be up, to run a plain job and to end."""
LEAST_S: Final = 90.0
"""With less time than this no test would come to its end."""
OVER_S: Final = 300.0
"""How much longer than its time a test may take that has begun: the limit that each test has."""
_SKIPPED: Final = "skipped: "


def ended(
    command: list[str], patience: float, *, shown: bool = False, **environment: str
) -> tuple[int, str] | None:
    """Run a command with a patience; return its exit code and output, None if it had to be ended.

    All that it has started in its session is ended with it; a Python program is interrupted, so that it cleans up.
    Output that is ``shown`` is not returned.
    """
    number = signal.SIGINT if command[0] == sys.executable else signal.SIGTERM
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=max(1.0, patience))
        except subprocess.TimeoutExpired:
            _end(process, number)
            return None
        except BaseException:
            _end(process, number)
            raise
    return process.returncode, output or ""


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """End a process and its session, with some seconds to clean up."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20.0)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5.0)


def why_not(name: str, left: float) -> str | None:
    """Return why there is no cluster of a name here, in a sentence; None if there is one.

    ``left`` are the seconds that there are for this.
    """
    patience = min(PATIENCE_S[name], left - LEAST_S - TRIAL_S)
    prepared = ended([PREPARATIONS[name]], patience)
    if prepared is None:
        return f"{PREPARATIONS[name]} did not end in {patience:.0f} s"
    code, output = prepared
    lines = output.splitlines()
    words = next((line for line in lines if line.startswith(_SKIPPED)), "")
    if code:
        return f"{PREPARATIONS[name]} failed: {lines[-1] if lines else f'exit code {code}'}"
    trial = [sys.executable, "-m", "clusters.trial", name]
    path = os.pathsep.join(filter(None, [str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH")]))
    tried = ended(trial, TRIAL_S, PYTHONPATH=path)
    if tried is None:
        return f"it did not start and run a plain job in {TRIAL_S:.0f} s"
    code, output = tried
    if code:
        last = output.strip().rpartition("\n")[2] or f"exit code {code}"
        mark = f"{_SKIPPED}tests with {TITLES[name]} ("
        return words.removeprefix(mark).removesuffix(")") or last
    if words:  # of a part
        _say(words)
    return None


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Return the exit code of the tests; 0 if none can run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--on", choices=TITLES, nargs="+", default=list(TITLES))
    asked, more = parser.parse_known_args()  # the rest is pytest's
    until = time.time() + asked.seconds
    there = []
    for name in asked.on:
        left = until - time.time()
        if left < LEAST_S + TRIAL_S:
            reason: str | None = f"{max(0.0, left):.0f} s are too few for them"
        else:
            reason = why_not(name, left)
        if reason is None:
            there.append(name)
        else:
            _say(f"{_SKIPPED}tests with {TITLES[name]} ({reason})")
    if not there:
        return 0
    tests = [sys.executable, "-m", "pytest", "-m", "not drill", "tests/clusters", *more]
    settings = {"EAI_CLUSTERS": ",".join(there), "EAI_CLUSTERS_UNTIL": str(until)}
    code = _code_of(tests, until, settings)
    if code == 1 and until - time.time() > LEAST_S:
        _say(
            "what has failed is run once more: a start may take too long on a machine that is busy with other work"
        )
        code = _code_of([*tests, "--last-failed"], until, settings)
    return code


def _code_of(tests: list[str], until: float, settings: dict[str, str]) -> int:
    """Return the exit code of tests; 0 if they do not end in time."""
    found = ended(tests, until - time.time() + OVER_S, shown=True, **settings)
    if found is None:
        _say(f"{_SKIPPED}the rest of the tests with clusters (they did not end in time)")
    return 0 if found is None else found[0]


if __name__ == "__main__":
    sys.exit(main())
