"""How much quicker is a step in the ring than on parameter servers, over the same links?

Four workers train one model with one global batch: in the ring, and synchronously on
TensorFlow's own parameter servers with K = 1, 2 and 4 of them. By default servers have hosts
of their own, which is how TensorFlow's guide has it, and more machines than the ring gets;
with `--shared` they are on the workers' hosts. The model has 16 equal gradients, so that
servers are loaded evenly, and next to nothing to compute. Hosts are network namespaces with
links of a set rate (`tests/hosts`; needs root).

Beside each ratio stands what the links alone would make of it: 2 S W / (K B) for servers
of which each serves W workers elsewhere, 2 (N-1)/N S / B for the ring. All take turns in one
group, from the same weights, and must end with the same loss; the control is the ring's even
turns against its odd ones. A third arm is the ring with half the bytes, ``wire="fp16"``.

    python benchmarks/ps_vs_ring.py
    python benchmarks/ps_vs_ring.py --servers 2 --shared    # adds to the day's file
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import _harness as harness
import _layers
import _on_hosts  # where the tests' hosts are found
import numpy as np
from hosts.cluster import Hosts

from eai_notebook.parameter_servers.server_layout import exchange_seconds, ring_seconds
from eai_notebook.session import Session

WORKERS = 4
SERVERS = (1, WORKERS // 2, WORKERS)
WIDTH = 512
RATE = 200.0

READY = """
from eai_notebook import parameter_servers
start = [w.copy() for w in model.get_weights()]
narrow = keras.models.clone_model(model)
narrow.compile(eai.DistributedOptimizer(keras.optimizers.SGD(1e-3), wire="fp16"), "mse")
"""
RING = """
model.set_weights(start)
model.make_train_function()  # returns it only where there is one already
work, steps, taken = model.train_function, iter(data), []
for _ in range(STEPS + 1):
    begin = time.perf_counter()
    work(steps)
    taken.append(time.perf_counter() - begin)
loss = float(model.evaluate(*batch, verbose=0))
"""
FP16 = RING.replace("model", "narrow")
PS = """
model.set_weights(start)
history = eai.fit(model, data, epochs=1, steps_per_epoch=STEPS + 1, verbose=0)
taken = list(servers.current().step_seconds)
loss = float(model.evaluate(*batch, verbose=0))
"""


def take_turns(
    hosts: Hosts, servers: int, turns: int, steps: int, *, shared: bool
) -> dict[str, list[list[float]]]:
    """Return each turn's seconds a step, in one group that does all; first steps are left out."""
    workers = list(range(WORKERS))
    arms: dict[str, tuple[str, list[int] | None]] = {
        "ring": (RING, workers),
        "fp16": (FP16, workers),
        "ps": (PS, None),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in arms}
    losses = []
    with Session(hosts=hosts.names) as session:
        session.serve(servers, apart=not shared)
        session.run(f"STEPS = {steps}\n{_layers.source(WIDTH)}{READY}")
        for name in ("ring", "fp16"):
            session.run(*arms[name])  # compiles
        for turn in range(turns):
            for name in arms if turn % 2 else reversed(arms):
                sent = steps * _layers.gradient_bytes(WIDTH) / (2 if name == "fp16" else 1)
                with hosts.crossing(0.9 * sent, WORKERS):
                    session.run(*arms[name])
                seconds = session.pull("taken")[1:]
                harness.say(f"{name} {np.median(seconds):.3f} s a step")
                taken[name].append(seconds)
                losses.append(session.pull("loss"))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-3)
    return taken


def measure(servers: int, rate: float, turns: int, steps: int, *, shared: bool) -> dict[str, Any]:
    """Return ratio, control and the model's prediction for one number of servers."""
    with Hosts(WORKERS if shared else WORKERS + servers, rate_mbit=rate) as hosts:
        hosts.favour()
        os.environ.update(hosts.environment())
        taken = take_turns(hosts, servers, turns, steps, shared=shared)
    ring, fp16, ps = ([s for turn in taken[name] for s in turn] for name in ("ring", "fp16", "ps"))
    even, odd = ([s for turn in taken["ring"][k::2] for s in turn] for k in (0, 1))
    return {
        **compare(ps, ring, servers, shared=shared),
        "fp16": ratio(ps, fp16),
        "control": ratio(even, odd),
        "repeats": [len(ps), len(ring)],
        "rate_mbit": rate,
        "model_mb": round(_layers.gradient_bytes(WIDTH) / 1e6, 2),
    }


def compare(taken: list[float], ring: list[float], servers: int, *, shared: bool) -> dict[str, Any]:
    """Return one arm's times against the ring's, and what the links alone would make of it."""
    size = float(_layers.gradient_bytes(WIDTH))
    expected = exchange_seconds(size, WORKERS, servers, 1.0, apart=not shared)
    return {
        **ratio(taken, ring),
        "predicted": round(expected / ring_seconds(size, WORKERS, 1.0), 2),
        "step_s": round(float(np.median(taken)), 4),
        "ring_step_s": round(float(np.median(ring)), 4),
    }


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Return the ratio of two medians, with its 95 % interval from independent draws."""
    rng = np.random.default_rng(0)
    tops = [np.median(rng.choice(above, len(above))) for _ in range(2000)]
    bottoms = [np.median(rng.choice(below, len(below))) for _ in range(2000)]
    low, high = np.quantile(np.divide(tops, bottoms), (0.025, 0.975))
    middle = float(np.median(above) / np.median(below))
    return {"ratio": round(middle, 3), "ci95": [round(float(low), 3), round(float(high), 3)]}


def main() -> None:
    """Measure what is asked for, add it to the day's, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, nargs="*", default=list(SERVERS))
    parser.add_argument("--rate", type=float, default=RATE, help="of each link, Mbit/s")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="a turn")
    parser.add_argument("--shared", action="store_true", help="servers on the workers' hosts")
    parser.add_argument("--fuse", type=int, help="MB that Horovod puts together, not as chosen")
    given = parser.parse_args()
    os.environ.update(_on_hosts.SHARED_CORES)
    if given.fuse:
        os.environ["HOROVOD_FUSION_THRESHOLD"] = str(given.fuse << 20)
    details = harness.earlier("ps_vs_ring")
    arms = details.setdefault("shared hosts" if given.shared else "hosts of their own", {})
    for servers in given.servers:
        harness.say(f"{servers} servers")
        name = f"{servers}, {given.fuse} MB fused" if given.fuse else str(servers)
        name += f", {given.rate:g} Mbit/s" if given.rate != RATE else ""
        arms[name] = measure(servers, given.rate, given.turns, given.steps, shared=given.shared)
        harness.finish("ps_vs_ring", summarize(details), details)


def summarize(details: dict[str, Any]) -> dict[str, float | None]:
    """Return the ratios with servers on hosts of their own, None where not measured yet."""
    apart = details.get("hosts of their own", {})
    names = dict(zip(("ratio_one", "ratio_half_n", "ratio_n"), SERVERS, strict=True))
    found = {name: apart.get(str(servers), {}) for name, servers in names.items()}
    return {
        **{name: each.get("ratio") for name, each in found.items()},
        **{f"{name}_fp16": each.get("fp16", {}).get("ratio") for name, each in found.items()},
    }


if __name__ == "__main__":
    main()
