"""Does input hold out? Many batches, then endings of all kinds: nothing may be left behind.

`growth_mb`: how far memory rises above what it was after a tenth of the batches, which are
small, so that there are many. Then a loop is left by an exception and by an interrupt, and a
process that reads in threads and in reader processes is killed: `left` counts threads,
descriptors, processes and files in shared memory that are there afterwards and were not before.

    python benchmarks/input_soak.py
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import _harness as harness
import numpy as np
import psutil

from eai_notebook import io
from eai_notebook.datasets.click_logs import criteo

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File

BATCH: Final = 64
SHARED: Final = Path("/dev/shm")  # noqa: S108 - looked at, not used
SETTLE_S: Final = 5.0

KILLED: Final = """
import sys
from eai_notebook import io
def rows(file):
    import numpy as np
    return {"size": np.full(1000, file.size)}
text = iter(io.criteo(sys.argv[1], 64, shard=False))
own = iter(io.map_files(sys.argv[1], rows, 64, rows=lambda file: 1000, shard=False))
next(text), next(own)
print("reading", flush=True)
while True:
    next(text, None)
"""


def lengths(file: File) -> dict[str, Any]:
    """Return the lengths of a file's lines."""
    with file.open() as stream:
        return {"length": np.array([len(line) for line in stream])}


def there(process: psutil.Process) -> dict[str, set[Any]]:
    """Return what a process holds that others could trip over."""
    return {
        "threads": {thread.name for thread in threading.enumerate() if "eai-" in thread.name},
        "descriptors": set(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough
        "processes": {child.pid for child in process.children(recursive=True)},
        "shared memory": set(SHARED.iterdir()),
    }


def left(before: dict[str, set[Any]], process: psutil.Process) -> dict[str, int]:
    """Return how much more there is, after some time to settle."""
    until = time.monotonic() + SETTLE_S
    while True:
        gc.collect()
        now = there(process)
        more = {kind: len(now[kind] - before[kind]) for kind in before}
        if not any(more.values()) or time.monotonic() > until:
            return more
        time.sleep(0.1)


def leave(data: InputData, ending: Callable[[], None]) -> None:
    """Leave a loop over data by an exception."""
    try:
        for number, _ in enumerate(data):
            if number == 3:
                ending()
    except (RuntimeError, KeyboardInterrupt):
        pass
    data.close()


def interrupt() -> None:
    """Do what Jupyter's stop button does."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def fail() -> None:
    """Raise what a training step might."""
    raise RuntimeError


def kill_a_reader(pattern: str) -> None:
    """Kill a process that reads, and wait until its own processes are gone."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, pattern], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        while victim.stdout.readline() != "reading\n":
            assert victim.poll() is None
        children = psutil.Process(victim.pid).children(recursive=True)
        assert children, "no reader process to look for"
        victim.kill()
    _, alive = psutil.wait_procs(children, timeout=SETTLE_S)
    assert not alive, f"{len(alive)} reader processes outlive their parent"


def main() -> None:
    """Run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "data"
    criteo(folder, rows=args.rows, files=8, seed=0)
    pattern = str(folder / "train-*.tsv")
    process = psutil.Process()
    text, own = io.criteo(pattern, BATCH), io.map_files(pattern, lengths, BATCH)
    for data in (text, own):  # what is made once is no leak
        leave(data, fail)
    before = there(process)
    memory: list[float] = []
    made, began = 0, time.perf_counter()
    while made < args.batches:
        for _ in text:
            made += 1
            if made % (args.batches // 100) == 0:
                memory.append(process.memory_info().rss / 1e6)
    passed = time.perf_counter() - began
    text.close()
    endings = {"end": left(before, process)}
    for name, ending in (("exception", fail), ("interrupt", interrupt)):
        for data in (text, own):
            leave(data, ending)
        endings[name] = left(before, process)
    kill_a_reader(pattern)
    endings["kill"] = left(before, process)
    tenth = len(memory) // 10
    summary = {
        "batches": made,
        "growth_mb": round(max(memory[tenth:]) - memory[tenth], 1),
        "left": sum(sum(ending.values()) for ending in endings.values()),
    }
    details = {"memory_mb": memory, "left": endings, "seconds": passed, "rows_a_batch": BATCH}
    harness.finish("input_soak", summary, details)


if __name__ == "__main__":
    main()
