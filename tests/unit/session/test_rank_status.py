from __future__ import annotations

import os
import sys
import time
import types
from typing import Any

import psutil
import pytest

from eai_notebook.engine import resource_usage
from eai_notebook.session import rank_status as pulses
from eai_notebook.session.rank_status import RankStatus
from eai_notebook.telemetry.messages import ResourceUsage


def test_a_log_keeps_the_latest_lines_as_a_terminal_would_show_them() -> None:
    pulse = RankStatus()
    pulse.take_text(1, "one\ntw")
    pulse.take_text(1, "o\n 10 %\r 20 %")
    assert pulse.log(1) == "one\ntwo\n 20 %"
    assert pulse.of(1) == {"vitals": None, "line": " 20 %"}
    pulse.take_text(1, "\r 30 %\n\n")
    assert pulse.of(1)["line"] == " 30 %"
    pulse.take_text(1, "not ended")
    pulse.begin_cell()
    assert pulse.of(1)["line"] == ""  # what another cell printed is not what this one does
    assert pulse.log(1).endswith("\nnot ended")
    pulse.take_text(1, "new")
    assert pulse.of(1)["line"] == "new"
    pulse.take_text(0, "line\n" * 3000)
    assert pulse.log(0).count("line") == pulses.LINES_SHOWN
    assert pulse.log(0, 10**6).count("line") == pulses.LINES_KEPT
    assert pulse.log(7) == ""
    pulse.forget()
    assert pulse.log(1) == ""


def test_the_log_of_all_ranks_has_their_lines_in_the_order_in_which_they_came() -> None:
    pulse = RankStatus()
    for rank, text in (1, "first\n"), (0, "second\nthird\n"), (1, "fourth\nunfinished"):
        pulse.take_text(rank, text)
    assert pulse.log(None).split("\n") == [
        "[1] first",
        "[0] second",
        "[0] third",
        "[1] fourth",
        "[1] unfinished",
    ]
    assert pulse.log(None, 1) == "[1] unfinished"


def test_news_come_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pulse = RankStatus()
    assert not pulse.take_update()
    pulse.add_usage(ResourceUsage(0, 50.0, 1e9, [], "no GPU"))
    assert pulse.take_update()
    pulse.take_text(0, "hello\n")
    assert not pulse.take_update()
    now += pulses.UPDATE_S
    assert pulse.take_update()
    assert not pulse.take_update()
    assert pulse.of(0)["vitals"]["no_gpu"] == "no GPU"


def test_a_rank_measures_itself() -> None:
    signs = resource_usage.ResourceMonitor(3)
    sum(range(2_000_000))
    found = signs.look()
    assert found.rank == 3
    assert found.cpu_pct is not None
    assert found.cpu_pct > 0
    assert found.memory_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert bool(found.gpus) != bool(found.no_gpu)


class NoDriverError(Exception):
    """What the stand-in for NVML raises."""


def nvml(gpus: int, mine: int | None) -> Any:
    """Return a stand-in for pynvml with so many GPUs, of which this process uses one."""
    module = types.ModuleType("pynvml")

    def start() -> None:
        if gpus == 0:
            raise NoDriverError

    def running(handle: int) -> list[Any]:
        pid = os.getpid() if handle == mine else 1
        return [types.SimpleNamespace(pid=pid)]

    parts: dict[str, Any] = {
        "NVMLError": NoDriverError,
        "nvmlInit": start,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: gpus,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetComputeRunningProcesses": running,
        "nvmlDeviceGetName": lambda index: f"GPU {index}",
        "nvmlDeviceGetUtilizationRates": lambda _: types.SimpleNamespace(gpu=40),
        "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(used=2, total=8),
    }
    for name, part in parts.items():
        setattr(module, name, part)
    return module


@pytest.mark.parametrize(
    ("mine", "visible", "expected"),
    [(2, None, [2]), (None, "1,3", [1, 3]), (None, None, [0, 1, 2, 3])],
)
def test_the_gpus_of_a_rank_are_those_it_uses_or_may_use(
    monkeypatch: pytest.MonkeyPatch, mine: int | None, visible: str | None, expected: list[int]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(4, mine))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus, reason = resource_usage.find_gpus(os.getpid())
    assert [gpu.index for gpu in gpus] == expected
    assert (gpus[0].busy_pct, gpus[0].used_bytes, gpus[0].total_bytes, reason) == (40, 2, 8, "")


def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(0, None))
    assert resource_usage.find_gpus(1) == ([], "no GPU")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py is not installed" in resource_usage.find_gpus(1)[1]
