"""The line of rates under a chart; `labextension/src/chart.ts` writes the same."""

from __future__ import annotations

from typing import Any

from eai_notebook.ledger.units import amount, ms


def rates_line(view: dict[str, Any]) -> str:
    """Return what was measured of the rates, in one line.

    Example:
        >>> rates_line({"run": {"steps": 40, "size": 2}, "measuring_pct": None, "rates": {
        ...     "step_ms": 12.5, "samples_per_s": 81920.0, "bytes_per_step": 4e6,
        ...     "bus_bytes_per_s": None}})
        '40 steps on 2 ranks · 12.5 ms a step · 81,920 samples/s · 4 MB/step'
    """
    run, rates = view["run"], view["rates"]
    told = [f"{run['steps']} steps on {run['size']} rank{'s' * (run['size'] != 1)}"]
    if rates["step_ms"] is not None:
        told.append(f"{ms(rates['step_ms'] / 1e3)} a step")
    if rates["samples_per_s"] is not None:
        told.append(f"{rates['samples_per_s']:,.0f} samples/s")
    if rates["bytes_per_step"] is not None:
        told.append(f"{amount(rates['bytes_per_step'])}/step")
    if rates["bus_bytes_per_s"] is not None:
        told.append(f"bus {amount(rates['bus_bytes_per_s'])}/s")
    if view["measuring_pct"] is not None:
        told.append(f"measuring {view['measuring_pct']:.2g} %")
    return " · ".join(told)
