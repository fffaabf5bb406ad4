"""The summary lines under a chart; `labextension/src/formatting.ts` writes the same."""

from __future__ import annotations

import time
from typing import Any

from eai_notebook.ledger.formatting import amount, count, duration, ms
from eai_notebook.ledger.one_rank import in_words
from eai_notebook.ledger.parts import BY_NAME


def rates_line(view: dict[str, Any]) -> str:
    """Return what was measured of the rates, in one line.

    Examples:
        >>> rates_line({"run": {"steps": 40, "size": 2}, "measuring_pct": None, "rates": {
        ...     "step_ms": 12.5, "samples_per_s": 81920.0, "bytes_per_step": 4e6,
        ...     "bus_bytes_per_s": 41e6, "link_bytes_per_s": 56e6, "hidden_ms": None}})
        "40 steps on 2 ranks · 12.5 ms a step · 81,920 samples/s · 4 MB/step · bus 41 MB/s of the link's 56 MB/s"
    """
    run, rates = view["run"], view["rates"]
    fragments = [f"{run['steps']} steps on {run['size']} rank{'s' * (run['size'] != 1)}"]
    if rates["step_ms"] is not None:
        fragments.append(f"{ms(rates['step_ms'] / 1e3)} a step")
    if rates["samples_per_s"] is not None:
        fragments.append(f"{count(rates['samples_per_s'])} samples/s")
    if rates.get("one_rank"):
        fragments.append(in_words(rates["one_rank"]))
    if rates["bytes_per_step"] is not None:
        fragments.append(f"{amount(rates['bytes_per_step'])}/step")
    if rates["bus_bytes_per_s"] is not None:
        link = rates["link_bytes_per_s"]
        of = "" if link is None else f" of the link's {amount(link)}/s"
        fragments.append(f"bus {amount(rates['bus_bytes_per_s'])}/s{of}")
    if rates["hidden_ms"]:
        fragments.append(
            f"communication {ms(_exposed_ms(view) / 1e3)} exposed, "
            f"{ms(rates['hidden_ms'] / 1e3)} hidden"
        )
    if view["measuring_pct"] is not None:
        fragments.append(f"measuring {view['measuring_pct']:.2g} %")
    return " · ".join(fragments)


def not_yet(view: dict[str, Any], now: float | None = None) -> str:
    """Return what a run that goes on still waits for before anything can be said of it; else empty.

    Examples:
        >>> run = {"state": "running", "steps": 0, "started": 100.0}
        >>> not_yet({"run": run, "ranks": [{"ms": [None, None]}]}, now=112.4)
        'compiling the first step, 12 s'
        >>> not_yet({"run": run, "ranks": [{"ms": [None, 2.5]}]})
        ''
    """
    run = view["run"]
    is_measured = any(part is not None for rank in view["ranks"] for part in rank["ms"])
    if run["state"] != "running" or is_measured:
        return ""
    age = duration(float(int(max(0.0, (now or time.time()) - run["started"]))))
    what = "measuring the first steps" if run["steps"] > 1 else "compiling the first step"
    return f"{what}, {age}"


def cut_note(buckets: dict[str, Any], cut: int) -> str:
    """Return what is said of `cut` bars that are longer than the axis; empty if none is.

    Examples:
        >>> cut_note({"longest": {"step": 0, "ms": 14_930.0}}, 2)
        '▲ 2 bars cut at the top; longest: step 0, 15 s'
    """
    longest = buckets["longest"]
    if not cut or longest is None:
        return ""
    text = f"longest: step {longest['step']:,}, {duration(longest['ms'] / 1e3)}"
    return f"▲ {cut} bar{'s' * (cut != 1)} cut at the top; {text}"


def price_line(view: dict[str, Any]) -> str:
    """Return what waiting cost over the whole run and all ranks; empty if nothing is known.

    Examples:
        >>> price_line({"parts": ["input", "compute"],
        ...     "price": {"rank_s": 28_800, "parts_s": [11_160, 17_640]}})
        'price of waiting: input wait 3.1 of 8.0 rank-hours'
    """
    whole = view["price"]["rank_s"]
    if not whole:
        return ""
    unit, seconds = next(
        (name, length)
        for name, length in (("rank-hours", 3600), ("rank-minutes", 60), ("rank-seconds", 0))
        if whole >= length
    )
    fragments = [
        f"{BY_NAME[part].wait} {spent / (seconds or 1):.1f}"
        for part, spent in zip(view["parts"], view["price"]["parts_s"], strict=True)
        if BY_NAME[part].wait and spent is not None
    ]
    if not fragments:
        return ""
    return f"price of waiting: {', '.join(fragments)} of {whole / (seconds or 1):.1f} {unit}"


def _exposed_ms(view: dict[str, Any]) -> float:
    return view["means_ms"][view["parts"].index("transfer")] or 0.0
