"""How much quicker is a step at the top of the ladder than at its bottom?

A talk of 2018 climbed 14 times on 64 nodes: readers that overlap with the step (2.1), an MPI ring
instead of parameter servers over gRPC (2.7), gradients in half the bits and fused (2.5). Here a Wide &
Deep model climbs the same rungs on four hosts, each on top of those before:

- ``servers``: two parameter servers on hosts of their own, synchronous, gRPC; one reader, which
  reads and parses when the step asks for a batch;
- ``readers``: `eai.io.criteo`, which reads ahead and parses in machine code;
- ``ring``: no servers, a ring of MPI ranks, fp32, every tensor by itself, embeddings' rows added up;
- ``fp16``: gradients in 16 bits, each with its own scale;
- ``fused``: small tensors in one message;
- ``ours``: what was not known in 2018: 4 bits with error feedback, the optimizer on touched rows only
  (``wire="int4"``, ``row_wise="exact"``).

Beside it ``stock``: Horovod's own allreduce with its 16 bits and fusion, tf.data as its guide has it.
All have the same weights, optimizer, global batch and files. Hosts are network namespaces with links of
a set rate (`tests/hosts`; needs root). The files are in a storage with S3's interface behind these
links; each request waits, and each stream has a rate.

All arms take turns; two groups live all the time, one with servers and one without. A turn counts
by the mean of its steps, since a naive reader waits in some of them; a rung's gain is the ratio of the
medians of turns, with its 95 % interval over turns. The control is the ring of the third rung
again. ``auc_gap``: the held-out AUC of ``ours`` against the fp32 ring, both after the same number of
steps from the same weights.

    python benchmarks/ladder.py                 # as root: it makes test hosts
    python benchmarks/ladder.py --turns 2 --steps 6 --auc-steps 0
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import _harness as harness
import _on_hosts  # noqa: F401  where the tests' hosts are found
import numpy as np
from _storage import serving
from hosts.cluster import Hosts

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.session import Session

WORKERS: Final = 4
SERVERS: Final = 2
RUNGS: Final = ("servers", "readers", "ring", "fp16", "fused", "ours")
SEPARATE, FUSED = 1, 8 << 20
"""Bytes that are joined into one message: so few that none are, and as usual."""

SET_UP = """
import os, sys
import eai_notebook as eai
os.environ.update({environment!r})
sys.path.insert(0, {folder!r})
import _ladder_rank as ladder
from eai_notebook.train.exchange import fusion_autotune
models = {{
    "servers": ladder.make_model(),
    "ring": ladder.make_model(),
    "fp16": ladder.make_model(wire="fp16"),
    "ours": ladder.make_model(wire="int4", row_wise="exact"),
}}
start = [w.copy() for w in models["ring"].get_weights()]
"""

ARMS: Final = {
    "servers": ("servers", "naive", None),
    "readers": ("servers", "ours", None),
    "ring": ("ring", "ours", SEPARATE),
    "ring again": ("ring", "ours", SEPARATE),
    "fp16": ("fp16", "ours", SEPARATE),
    "fused": ("fp16", "ours", FUSED),
    "ours": ("ours", "ours", FUSED),
    "stock": ("stock", "idiomatic", FUSED),
}
"""For each: the model, its reader, and how many bytes are fused."""


def cell(name: str, steps: int) -> str:
    """Return the cell of one turn of an arm; it leaves `taken`."""
    model, reader, fused = ARMS[name]
    fuse = "" if fused is None else f"fusion_autotune.use({fused})\n"
    if model == "stock":
        return (
            "if 'stock' not in globals():\n    stock = ladder.Stock()\n"
            f"stock.model.set_weights(start)\n{fuse}"
            f"taken = stock.train(ladder.{reader}(), {steps})"
        )
    return (
        f"model = models[{model!r}]\nmodel.set_weights(start)\n{fuse}"
        f"taken = ladder.train(model, ladder.{reader}(), {steps})"
    )


def climb(hosts: Hosts, given: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """Return each arm's seconds, turn by turn, and the two areas under the curve."""
    taken: dict[str, list[list[float]]] = {name: [] for name in ARMS}
    set_up = SET_UP.format(environment=environment, folder=str(Path(__file__).parent))
    with Session(hosts=hosts.names) as tasks, Session(hosts=hosts.names[:WORKERS]) as ring:
        tasks.serve(SERVERS, apart=True)
        for session in (tasks, ring):
            session.run(set_up)
        for turn in range(given.turns + 1):  # the first one compiles
            order = list(ARMS) if turn % 2 else list(reversed(ARMS))
            for name in order:
                steps = given.steps if turn else 1
                session = tasks if ARMS[name][0] == "servers" else ring
                session.run(cell(name, steps))
                seconds = session.pull("taken", 0)
                harness.say(f"{turn} {name}: {np.mean(seconds):.3f} s a step")
                if turn:
                    taken[name].append(seconds)
        areas = {}
        for name in ("ring", "ours") if given.auc_steps else ():
            fuse = ARMS["ours"][2]
            ring.run(
                f"model = models[{name!r}]\nmodel.set_weights(start)\n"
                f"fusion_autotune.use({fuse})\n"
                f"_ = ladder.train(model, ladder.ours(), {given.auc_steps})\n"
                f"area = ladder.held_out_auc(model, {environment['EAI_LADDER_FOLDER']!r}) "
                "if eai.rank() == 0 else None"
            )
            areas[name] = ring.pull("area", 0)
            harness.say(f"{name}: AUC {areas[name]:.5f}")
    return {"taken": taken, "auc": areas}


def ratio(above: list[list[float]], below: list[list[float]]) -> dict[str, Any]:
    """Return the ratio of the medians of two arms' turns, with its 95 % interval."""
    means = [[float(np.mean(turn)) for turn in arm] for arm in (above, below)]
    return harness.paired_ratio(*means)


def summarize(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the summary and the details."""
    taken = found["taken"]
    rungs = {up: ratio(taken[down], taken[up]) for down, up in itertools.pairwise(RUNGS)}
    total, stock = (ratio(taken[name], taken["ours"]) for name in ("servers", "stock"))
    control = ratio(taken["ring"], taken["ring again"])
    areas = found["auc"]
    summary = {
        "total": total["ratio"],
        "total_ci95": total["ci95"],
        "vs_stock_2026": stock["ratio"],
        "vs_stock_ci95": stock["ci95"],
        "rungs": {name: each["ratio"] for name, each in rungs.items()},
        "auc_gap": round(areas["ring"] - areas["ours"], 5) if areas else None,
        "control": control["ratio"],
    }
    medians = {
        name: round(float(np.median([np.mean(turn) for turn in turns])), 4)
        for name, turns in taken.items()
    }
    return summary, {"rungs": rungs, "control": control, "step_s": medians, "auc": areas}


def main() -> None:
    """Make hosts, storage and logs; climb; write the result file; print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=100.0, help="of each link, Mbit/s")
    parser.add_argument("--latency", type=float, default=0.05, help="of the storage, seconds")
    parser.add_argument("--stream", type=float, default=1e6, help="bytes/s of a storage's stream")
    parser.add_argument("--batch", type=int, default=512, help="rows of one rank")
    parser.add_argument("--hidden", type=int, nargs="*", default=[1024, 512, 256])
    parser.add_argument("--buckets", type=int, default=1000, help="of each of 26 columns")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="a turn")
    parser.add_argument("--auc-steps", type=int, default=300, help="0: none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        criteo(folder, rows=200_000, files=8)
        names = sorted(path.name for path in folder.glob("train-*.tsv"))
        copies = 4
        with Hosts(WORKERS + SERVERS, rate_mbit=given.rate) as hosts:
            hosts.favour()
            os.environ.update(hosts.environment())
            where = hosts.desk_address
            with serving(folder, copies, given.latency, given.stream, 1e9, where) as endpoint:
                urls = [f"s3://logs/{copy}/{name}" for copy in range(copies) for name in names]
                environment = {
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_ACCESS_KEY_ID": "none",
                    "AWS_SECRET_ACCESS_KEY": "none",
                    "AWS_REGION": "us-east-1",
                    "EAI_LADDER_BATCH": str(given.batch),
                    "EAI_LADDER_BUCKETS": str(given.buckets),
                    "EAI_LADDER_FOLDER": str(folder),
                    "EAI_LADDER_HIDDEN": ",".join(map(str, given.hidden)),
                    "EAI_LADDER_URLS": ",".join(urls),
                }
                found = climb(hosts, given, environment)
    summary, details = summarize(found)
    harness.finish("ladder", summary, {"asked": vars(given), **details, "seconds": found["taken"]})


if __name__ == "__main__":
    main()
