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

Two groups take turns, one with servers and one without, and in each all its arms; the order of both is
turned round each time. A group is started for its turn and ends with it: together they have more ranks
than a small machine can run at once. A turn of an arm counts by the mean of its steps, since a naive
reader waits in some of them; a rung's gain is the ratio of the medians of turns, with its 95 % interval
over turns. The control is the ring of the third rung again. ``auc_gap``: the held-out AUC of ``ours``
against the fp32 ring, both after the same number of steps from the same weights, on links without a
limit.

    python benchmarks/ladder.py                 # as root: it makes test hosts
    python benchmarks/ladder.py --turns 2 --steps 6 --auc-steps 0
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import _harness as harness
import _on_hosts  # where the tests' hosts are found
import numpy as np
from _storage import serving
from hosts.cluster import Hosts

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

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
models = {models}
start = [w.copy() for w in next(iter(models.values())).get_weights()]
"""
"""What comes first in a group; the weights that all models begin with are `start`."""

MODELS: Final = {
    "servers": '{"servers": ladder.make_model()}',
    "ring": """{
    "ring": ladder.make_model(),
    "fp16": ladder.make_model(wire="fp16"),
    "ours": ladder.make_model(wire="int4", row_wise="exact"),
}""",
}
"""The models of a group."""

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
    for turn in range(given.turns):
        arms = list(ARMS) if turn % 2 else list(reversed(ARMS))
        kinds = list(MODELS) if turn % 2 else list(reversed(MODELS))
        for kind in kinds:
            with group(kind, hosts, environment) as session:
                for name in arms:
                    if (ARMS[name][0] == "servers") == (kind == "servers"):
                        session.run(cell(name, given.steps))
                        taken[name].append(session.pull("taken", 0))
                        seconds = np.round(taken[name][-1], 3).tolist()
                        harness.say(f"{turn + 1}/{given.turns} {name}: {seconds} s")
    areas = {}
    if given.auc_steps:
        hosts.shape(None)
        with group("ring", hosts, environment) as session:
            for name in ("ring", "ours"):
                areas[name] = area(session, name, given.auc_steps, environment)
                harness.say(f"{name}: AUC {areas[name]:.5f}")
    return {"taken": taken, "auc": areas}


@contextlib.contextmanager
def group(kind: str, hosts: Hosts, environment: dict[str, str]) -> Iterator[Session]:
    """Start a group with servers or a ring, ready for its arms; it ends with the block."""
    with Session(hosts=hosts.names if kind == "servers" else hosts.names[:WORKERS]) as session:
        if kind == "servers":
            session.serve(SERVERS, apart=True)
        folder = str(Path(__file__).parent)
        session.run(SET_UP.format(environment=environment, folder=folder, models=MODELS[kind]))
        yield session


def area(session: Session, name: str, steps: int, environment: dict[str, str]) -> float:
    """Train a model from the common weights; return its held-out AUC."""
    session.run(
        f"model = models[{name!r}]\nmodel.set_weights(start)\n"
        f"fusion_autotune.use({FUSED})\n"
        f"_ = ladder.train(model, ladder.ours(), {steps})\n"
        f"area = ladder.held_out_auc(model, {environment['EAI_LADDER_FOLDER']!r}) "
        "if eai.rank() == 0 else None"
    )
    return float(session.pull("area", 0))


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
    parser.add_argument("--rate", type=float, default=50.0, help="of each link, Mbit/s")
    parser.add_argument("--latency", type=float, default=0.05, help="of the storage, seconds")
    parser.add_argument("--stream", type=float, default=1e6, help="bytes/s of a storage's stream")
    parser.add_argument("--batch", type=int, default=256, help="rows of one rank")
    parser.add_argument("--hidden", type=int, nargs="*", default=[1024, 512, 256])
    parser.add_argument("--buckets", type=int, default=1000, help="of each of 26 columns")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="a turn")
    parser.add_argument("--auc-steps", type=int, default=300, help="0: none")
    given = parser.parse_args()
    os.environ.update(_on_hosts.SHARED_CORES)
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
