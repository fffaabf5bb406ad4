"""How long does a `%%distributed` cell take that does nothing, and a group to start?

Both against ipyparallel's own `%%px` and `Cluster(engines="mpi")`, in one kernel, on four
ranks each, taken in turn in random order. Ours is always encrypted (CurveZMQ, and every client's
key is checked); ipyparallel's is not unless asked, and runs both ways: what encryption alone costs
is the ratio of these two. Each series also runs against itself: `%%px` against `%%px` and a plain
start against a plain start, which is what the noise does.

A group counts as started when its engines have registered, which is when both return. Our
ranks then load TensorFlow and form the ring; `first_cell_s` is how long it takes until
the first cell is done, next to a plain cluster's first `import tensorflow` cell.

    python benchmarks/cell_latency.py
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import nbclient
import nbformat
import numpy as np

IN_THE_KERNEL = """
import json, os, random, time
os.environ["IPP_NONINTERACTIVE"] = "1"
import ipyparallel
from traitlets.config import Config
from eai_notebook.cluster.mpi_environment import rank_environment
from eai_notebook.session import Session, Watcher

class Silent(Watcher):
    def text(self, stream, text):
        pass

ip = get_ipython()
ip.run_line_magic("load_ext", "eai_notebook")
magics = ip.magics_manager.registry["EaiMagics"]
rng = random.Random(SEED)

def plain_cluster(encrypted=False):
    config = Config()
    config.MPIEngineSetLauncher.mpi_args = ["--oversubscribe", "--bind-to", "none"]
    if encrypted:
        config.Cluster.controller_args = ["--IPController.enable_curve=True"]
    cluster = ipyparallel.Cluster(engines="mpi", n=RANKS, config=config, load_profile=False,
                                  log_level=40)
    client = cluster.start_and_connect_sync()
    return cluster, client

def start_plain(encrypted=False):
    begin = time.perf_counter()
    cluster, client = plain_cluster(encrypted)
    started = time.perf_counter() - begin
    client[:].execute("import tensorflow", silent=False).get()
    first = time.perf_counter() - begin
    client.close()
    cluster.stop_cluster_sync()
    return started, first

def start_ours():
    session = Session(RANKS, watcher=Silent())
    begin = time.perf_counter()
    session.up()
    started = time.perf_counter() - begin
    session.run("import tensorflow")
    first = time.perf_counter() - begin
    session.down()
    return started, first

os.environ.update(rank_environment(RANKS))  # the plain cluster needs leave to run as root, too
starts = {"ours": [], "plain": [], "plain again": [], "plain encrypted": []}
ways = {"ours": start_ours, "plain encrypted": lambda: start_plain(encrypted=True)}
for _ in range(STARTS):
    order = list(starts)
    rng.shuffle(order)
    for name in order:
        starts[name].append(ways.get(name, start_plain)())

clusters = [plain_cluster(), plain_cluster(encrypted=True)]
assert not clusters[0][1].curve_serverkey and clusters[1][1].curve_serverkey
for (_, client), suffix in zip(clusters, ("", "_encrypted")):
    client[:].activate(suffix)
magics.session = Session(RANKS, watcher=Silent())
magics.session.up()
cells = {"ours": [], "px": [], "px again": [], "px encrypted": []}
magic_of = {"ours": "distributed", "px encrypted": "px_encrypted"}
for number in range(CELLS + 20):
    order = list(cells)
    rng.shuffle(order)
    for name in order:
        magic = magic_of.get(name, "px")
        begin = time.perf_counter()
        ip.run_cell_magic(magic, "" if name == "ours" else "--block", "pass")
        if number >= 20:
            cells[name].append(time.perf_counter() - begin)
magics.session.down()
for cluster, client in clusters:
    client.close()
    cluster.stop_cluster_sync()
print("RESULT" + json.dumps({"starts": starts, "cells": cells}))
"""


def measure(ranks: int, cells: int, starts: int, seed: int) -> dict[str, Any]:
    """Run the measurement in a fresh kernel and return its raw times in seconds."""
    settings = f"RANKS, CELLS, STARTS, SEED = {ranks}, {cells}, {starts}, {seed}\n"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(settings + IN_THE_KERNEL)])
    nbclient.NotebookClient(book, timeout=3600, kernel_name="python3").execute()
    printed = "".join(out.text for out in book.cells[0].outputs if out.output_type == "stream")
    found: dict[str, Any] = json.loads(printed.rpartition("RESULT")[2])
    return found


def main() -> None:
    """Measure, write the result file, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    raw = measure(given.ranks, given.cells, given.starts, given.seed)
    cells = raw["cells"]
    starts = {name: [pair[0] for pair in pairs] for name, pairs in raw["starts"].items()}
    firsts = {name: [pair[1] for pair in pairs] for name, pairs in raw["starts"].items()}
    cell = harness.paired_ratio(cells["ours"], cells["px"])
    start = harness.paired_ratio(starts["ours"], starts["plain"])
    details = {
        "ranks": given.ranks,
        "cell": cell,
        "cell_encryption": harness.paired_ratio(cells["px encrypted"], cells["px"]),
        "cell_control": harness.paired_ratio(cells["px again"], cells["px"]),
        "cell_ms": {name: round(1e3 * float(np.median(v)), 2) for name, v in cells.items()},
        "cell_p95_ms": {
            name: round(1e3 * float(np.quantile(v, 0.95)), 2) for name, v in cells.items()
        },
        "start": start,
        "start_encryption": harness.paired_ratio(starts["plain encrypted"], starts["plain"]),
        "start_control": harness.paired_ratio(starts["plain again"], starts["plain"]),
        "start_s": {name: round(float(np.median(v)), 2) for name, v in starts.items()},
        "first_cell": harness.paired_ratio(firsts["ours"], firsts["plain"]),
        "first_cell_s": {name: round(float(np.median(v)), 2) for name, v in firsts.items()},
    }
    summary = {
        "ratio": cell["ratio"],
        "start_ratio": start["ratio"],
        "encryption_ratio": details["cell_encryption"]["ratio"],
        "encryption_start_ratio": details["start_encryption"]["ratio"],
    }
    harness.finish("cell_latency", summary, details)


if __name__ == "__main__":
    main()
