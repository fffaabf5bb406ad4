"""Does the panel keep up? A recorded run is replayed into JupyterLab in a real browser.

Two cases, a minute each: 8 ranks x 200 steps/s with a history of a million steps behind
them, and 64 ranks x 10 steps/s with an eighth of that, which is as many rows (a row is one
step of one rank). The rows come in batches, as often as ranks send them, are written to a
record, and are shown by what shows a real run: the view of the growing record, the panel
and the chart below the cell.

Latency is a step's own: from its end on the ranks to the animation frame in which the
panel has drawn it, both read off one machine's clock, for every step that ended while the
page was watched. So it has in it how long ranks let rows gather, how long the slowest of
them takes to send, how often the kernel looks, and all of the way. In the details stands
also what of it begins at the arrival of the batch that completed the step, and how old the
newest step on the screen is, looked at a hundred times a second. A frame is the time
between two animation frames; the heap is measured after a garbage collection; a message is
a frame of the page's websockets, whatever is in it. The worse of the two cases is the
summary.

Then two things that people do: the press of *Stop* in a cell that sleeps a minute on two
real ranks, until the cell has ended on the screen; and a reload of the page in mid-run,
until the panel shows the whole run again, counted from the reload and from when JupyterLab
itself has its notebook on the screen.

    python benchmarks/panel.py                 # about five minutes
    python benchmarks/panel.py --seconds 10    # a look
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

CASES: Final = {"64 ranks": (64, 10.0), "8 ranks": (8, 200.0)}

WATCH: Final = """() => {
    window.eaiSeen = [];
    window.eaiFrames = [];
    let last = performance.now(), steps = '';
    const look = now => {
        window.eaiFrames.push(now - last);
        last = now;
        const shown = document.querySelector('#eai-notebook-panel .eai-Chart')?.dataset.steps;
        if (shown !== undefined && shown !== steps) {
            steps = shown;
            window.eaiSeen.push([Number(shown), Date.now() / 1000]);
        }
        window.eaiLooking = requestAnimationFrame(look);
    };
    window.eaiLooking = requestAnimationFrame(look);
}"""


def batch(rank: int, first: int, count: int, began: float, rate: float) -> np.ndarray:
    """Return `count` rows of a rank: `rate` steps a second in lockstep, one rank now and then late."""
    from eai_notebook.ledger.step_schema import STEP_DTYPE

    rows = np.empty(count, STEP_DTYPE)
    steps, length = np.arange(first, first + count), 1 / rate
    begin = began + steps * length
    rng = np.random.default_rng([rank, first])
    rows["step"], rows["begin"], rows["end"] = steps, begin, begin + length
    rows["input"] = 0.05 * length
    rows["compute"] = (0.6 + 0.02 * rng.standard_normal(count)) * length
    rows["compute"] += np.where((steps // 500 + rank) % 8 == 0, 0.1 * length, 0)
    rows["ready"] = begin + rows["input"] + rows["compute"]
    rows["reduced"] = begin + 0.88 * length
    rows["update"] = 0.05 * length
    rows["hidden"], rows["samples"], rows["bytes"] = 0.1 * length, 512, 4e6
    return rows


def replay(ranks: int, rate: float, seconds: float, history: int, log: str) -> None:
    """Replay a run in the kernel; write the arrival times to the file `log`."""
    from eai_notebook.display import LiveRun
    from eai_notebook.display.panel_channel import PanelChannel
    from eai_notebook.session.run_recorder import RunRecorder
    from eai_notebook.telemetry.messages import RunBegan, StepsDone
    from eai_notebook.train.recording.step_clock import FLUSH_S, MESSAGES_PER_S, SLOWEST_S

    keeper = RunRecorder(Path(tempfile.mkdtemp(prefix="eai-bench-")))
    panel, live = PanelChannel(lambda _name, _arguments: None), LiveRun("replay")
    group = [{"rank": r, "host": f"gpu{r // 8}", "pid": r, "state": "busy"} for r in range(ranks)]
    panel.group({"state": "busy", "size": ranks, "message": "", "ranks": group})
    past = 8 * history // ranks
    began = time.time() - past / rate
    for each in range(ranks):
        keeper.take(RunBegan("bench", each, ranks, "replay", f"gpu{each // 8}", each))
    piece = 400_000 // ranks
    for first in range(0, past, piece):
        for each in range(ranks):
            count = min(piece, past - first)
            keeper.take(StepsDone("bench", each, batch(each, first, count, began, rate)))
    show(keeper, panel, live)
    # As `StepClock` sends: the longer a run and the more ranks, the larger the batches. All ranks
    # send after the same step, and one after the other since they share cores here.
    every = max(FLUSH_S, ranks / MESSAGES_PER_S, SLOWEST_S)
    start, looks = time.time(), []
    began = start - past / rate
    sent = np.full(ranks, past)
    due = np.full(ranks, (start // every + 1) * every)
    arrivals: list[tuple[int, float]] = []
    while (now := time.time()) < start + seconds:
        for rank in map(int, np.flatnonzero(due <= now)):
            until = past + int((now - start) * rate)
            rows = batch(rank, int(sent[rank]), until - int(sent[rank]), began, rate)
            keeper.take(StepsDone("bench", rank, rows))
            sent[rank], due[rank] = until, due[rank] + every
            arrivals.append((int(sent.min()), time.time()))
        looked = time.perf_counter()
        if show(keeper, panel, live):
            looks.append(time.perf_counter() - looked)
        time.sleep(0.02)
    Path(log).write_text(
        json.dumps({"arrivals": arrivals, "start": start, "past": past, "looks": looks})
    )


def show(keeper: Any, panel: Any, live: Any) -> bool:
    """Show what is due, as a notebook does."""
    shown = False
    for view, _ in keeper.views_due():
        panel.run(view)
        live.update(view)
        shown = True
    return shown


def measure(
    browser: Any, lab: Any, ranks: int, rate: float, seconds: float, history: int
) -> dict[str, Any]:
    """Replay one case in a new page and return its figures."""
    from browser.lab import Notebook

    arrivals = lab.root / f"{ranks}.json"
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport panel as bench\n"
        f"bench.replay({ranks}, {rate}, {seconds}, {history}, {str(arrivals)!r})"
    )
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.set_default_timeout(240_000)
    received: list[float] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda _: received.append(time.time())),
    )
    notebook = Notebook(lab, page, (code,), f"bench{ranks}")
    notebook.run_cell()
    notebook.wait_steps(max(1, 8 * history // ranks))
    page.wait_for_timeout(2000)
    before = heap(page)
    page.evaluate(WATCH)
    began = time.time()
    page.wait_for_timeout(1000 * max(1.0, seconds - 6))
    ended = time.time()
    seen, frames = page.evaluate(
        "() => (cancelAnimationFrame(window.eaiLooking), [window.eaiSeen, window.eaiFrames])"
    )
    after = heap(page)
    notebook.wait_cells(1)
    log = json.loads(arrivals.read_text())
    notebook.close()
    delays = waited(np.array(seen), log, rate, (began, ended))
    inside = [at for at in received if began <= at <= ended]
    return {
        "ranks": ranks,
        "steps_per_s": rate,
        "history_steps": 8 * history // ranks,
        "updates": len(seen) - 1,
        **delays,
        "p95_frame_ms": round(float(np.percentile(frames[1:], 95)), 1),
        "longest_frame_ms": round(float(np.max(frames[1:])), 1),
        "heap_growth_mb": round((after - before) / 1e6, 2),
        "messages_per_s": round(len(inside) / (ended - began), 1),
        "p95_look_ms": round(1e3 * float(np.percentile(log["looks"], 95)), 1),
    }


def stops(browser: Any, lab: Any, presses: int) -> list[float]:
    """Return the seconds from each press of Stop to the end of the cell, both in the page."""
    from browser.lab import Notebook

    sleep = "%%distributed\nimport time\ntime.sleep(60)"
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    cells = ("%load_ext eai_notebook\n%eai up -n 2", *[sleep] * presses)
    notebook = Notebook(lab, page, cells, "stops")
    notebook.run_cell()
    page.wait_for_selector(".eai-Panel-state[data-state=up]")
    found = []
    for number in range(presses):
        notebook.wait_cells(1 + number)
        notebook.run_cell()
        page.wait_for_selector(".eai-Panel-state[data-state=busy]")
        page.wait_for_timeout(1000)
        pressed = time.monotonic()
        page.get_by_role("button", name="Stop", exact=True).click()
        notebook.wait_cells(2 + number)
        found.append(time.monotonic() - pressed)
        page.wait_for_selector(".eai-Panel-state[data-state=up]")
    notebook.close()
    return found


def reloads(browser: Any, lab: Any, times: int) -> list[tuple[float, float]]:
    """Return the seconds until a reloaded page shows the run, in all and of the panel's own."""
    from browser.lab import Notebook

    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    code = "from player import Player\nPlayer(8).play(120, 12_000, live=False)"
    notebook = Notebook(lab, page, (code,), "reloads")
    notebook.run_cell()
    found = []
    for _ in range(times):
        notebook.wait_steps(100)
        began = time.monotonic()
        page.reload(wait_until="commit")
        notebook.wait_ready(idle=False)
        ready = time.monotonic()
        notebook.wait_steps(100)
        found.append((time.monotonic() - began, time.monotonic() - ready))
    notebook.close()
    return found


def waited(
    seen: np.ndarray, log: dict[str, Any], rate: float, window: tuple[float, float]
) -> dict[str, float]:
    """Return how long steps waited to be seen; `seen` are (steps on the screen, since when)."""
    shown, since = seen.T
    began, ended = window

    def end_of(steps: np.ndarray) -> np.ndarray:
        """Return when the last of so many steps ended."""
        return np.asarray(log["start"] + (steps - log["past"]) / rate)

    steps = np.arange(int(shown[0]) + 1, int(shown[-1]) + 1)
    latency = since[np.searchsorted(shown, steps)] - end_of(steps)
    complete, arrived = np.array(log["arrivals"]).T
    from_arrival = since[1:] - arrived[np.searchsorted(complete, shown[1:])]
    looked = np.arange(max(began, since[0]), ended, 0.01)
    age = looked - end_of(shown[np.searchsorted(since, looked, side="right") - 1])
    return {
        "steps": len(steps),
        "p50_latency_ms": round(1e3 * float(np.percentile(latency, 50)), 1),
        "p95_latency_ms": round(1e3 * float(np.percentile(latency, 95)), 1),
        "longest_latency_ms": round(1e3 * float(latency.max()), 1),
        "p95_from_arrival_ms": round(1e3 * float(np.percentile(from_arrival, 95)), 1),
        "p95_age_of_newest_step_ms": round(1e3 * float(np.percentile(age, 95)), 1),
    }


def heap(page: Any) -> float:
    """Return the bytes of the page's JavaScript heap that are in use after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used)


def main() -> None:
    """Measure both cases and write the result."""
    import _harness as harness
    from browser.lab import Lab, chromium, what_is_missing
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each replay")
    parser.add_argument("--history", type=int, default=1_000_000, help="steps of 8 ranks before it")
    options = parser.parse_args()
    if reason := what_is_missing():
        sys.exit(reason)
    lab = Lab(Path(tempfile.mkdtemp(prefix="eai-bench-")))
    found = {}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            for name, (ranks, rate) in CASES.items():
                harness.say(f"{name} at {rate:g} steps/s for {options.seconds:g} s")
                found[name] = measure(browser, lab, ranks, rate, options.seconds, options.history)
                harness.say(json.dumps(found[name]))
            harness.say("Stop, and a reload of the page")
            pressed, reloaded = stops(browser, lab, 10), reloads(browser, lab, 5)
    finally:
        lab.stop()
    keys = ("p95_latency_ms", "p95_frame_ms", "heap_growth_mb", "messages_per_s")
    summary = {key: max(case[key] for case in found.values()) for key in keys}
    summary["p95_stop_s"] = round(float(np.percentile(pressed, 95)), 2)
    summary["longest_reattach_s"] = round(max(own for _, own in reloaded), 2)
    people = {"stop_s": np.round(pressed, 3), "reload_and_reattach_s": np.round(reloaded, 3)}
    harness.finish("panel", summary, {"cases": found, "seconds": options.seconds, **people})


if __name__ == "__main__":
    main()
