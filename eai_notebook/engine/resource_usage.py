"""Measure the CPU, memory, network and GPU usage of a rank.

Each rank measures itself, so the GPUs of every host are seen. NVML is asked through
NVIDIA's own binding; it is not there on machines without their driver, and that is said.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import psutil

from eai_notebook.bookkeeping import VITALS
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import Gpu, ResourceUsage

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S: Final = 2.0
"""The time between two measurements while a cell runs; idle ranks are left alone."""

LOOK_S: Final = 0.25
"""How soon it is noticed that a cell has begun."""

NO_GPU: Final = "no GPU"

LOOPBACK: Final = ("lo", "lo0")


class ResourceMonitor:
    """Measures this process: CPU since the last time, memory, and the GPUs it uses.

    The network is that of the host: nobody counts the bytes of one process.

    Where NVML does not say which GPUs the process uses, which it does not once the
    process is in a container, all GPUs that it may use are listed instead.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._bytes, self._looked = network_bytes(), time.monotonic()

    def look(self) -> ResourceUsage:
        """Return how this rank is doing."""
        gpus, no_gpu = find_gpus(self._process.pid)
        return ResourceUsage(
            rank=self._rank,
            cpu_pct=self._process.cpu_percent(),
            memory_bytes=float(self._process.memory_info().rss),
            gpus=gpus,
            no_gpu=no_gpu,
            queue=messages.queue_depth(),
            network_bytes_per_s=self._network(),
            pid=self._process.pid,
        )

    def _network(self) -> float | None:
        """Return the bytes/s of this host since the last time; None where it has no network."""
        before, looked = self._bytes, self._looked
        self._bytes, self._looked = network_bytes(), time.monotonic()
        if before is None or self._bytes is None or self._looked <= looked:
            return None
        return max(0.0, (self._bytes - before) / (self._looked - looked))


def network_bytes() -> float | None:
    """Return what this host has sent and received so far, but for what went to itself."""
    try:
        counters = psutil.net_io_counters(pernic=True)
    except (OSError, RuntimeError):  # a container may hide them
        return None
    others = [each for name, each in counters.items() if name not in LOOPBACK]
    return float(sum(each.bytes_sent + each.bytes_recv for each in others)) if others else None


def find_gpus(pid: int) -> tuple[list[Gpu], str]:
    """Return the GPUs of process `pid`, or none and the reason why."""
    try:
        import pynvml
    except ImportError:
        return [], f"{NO_GPU}: nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], NO_GPU  # no driver, so no GPU that TensorFlow could use
    try:
        count = pynvml.nvmlDeviceGetCount()
        handles = [(index, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
        used = [(index, handle) for index, handle in handles if _runs_on(pynvml, handle, pid)]
        chosen = used or [(index, handle) for index, handle in handles if _may_use(index)]
        return [_gpu(pynvml, index, handle) for index, handle in chosen], "" if chosen else NO_GPU
    finally:
        pynvml.nvmlShutdown()


def _runs_on(pynvml: Any, handle: Any, pid: int) -> bool:
    with contextlib.suppress(pynvml.NVMLError):
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return any(process.pid == pid for process in running)
    return False


def _may_use(index: int) -> bool:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible is None or str(index) in visible.split(",")


def _gpu(pynvml: Any, index: int, handle: Any) -> Gpu:
    name = pynvml.nvmlDeviceGetName(handle)
    busy: float | None = None
    used: float | None = None
    total: float | None = None
    with contextlib.suppress(pynvml.NVMLError):  # a slice of a GPU has no utilisation figure
        busy = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    with contextlib.suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        used, total = float(memory.used), float(memory.total)
    return Gpu(index, name if isinstance(name, str) else name.decode(), busy, used, total)


def watch(rank: int, is_running: Callable[[], bool]) -> threading.Thread:
    """Report this rank's usage from a thread, every `EVERY_S` seconds while a cell runs."""
    signs = ResourceMonitor(rank)

    def report() -> None:
        reported_at = 0.0
        while True:
            time.sleep(LOOK_S)
            if is_running() and time.monotonic() - reported_at >= EVERY_S:
                reported_at = time.monotonic()
                with messages.books.doing(VITALS):
                    messages.emit(signs.look())

    thread = threading.Thread(target=report, name="eai-vitals", daemon=True)
    thread.start()
    return thread
