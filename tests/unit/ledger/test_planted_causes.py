"""Causes of all kinds and sizes, planted in noise: the verdict is right, or it abstains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic import run_rows

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.verdict import Verdict, verdict_of

STEPS = 80
BYTES = 528_000
LINK = 62.5e6
"""What the link between hosts carried when the group started, bytes a second."""
BASE = {"input": 0.0005, "compute": 0.010, "transfer": 0.001, "update": 0.0008, "other": 0.0003}
AGREED = 0.001
OWN = ("input", "compute", "update", "other")

shares = st.floats(0.1, 0.5)
sizes = st.floats(0.3, 3.0)
runs = st.fixed_dictionaries(
    {
        "ranks": st.integers(2, 5),
        "seed": st.integers(0, 999),
        "noise": st.floats(0.00005, 0.0008),
        "hosts": st.sampled_from([1, 2]),
        "measured_link": st.booleans(),
    }
)


@dataclass
class Planted:
    """A run with one cause, and the verdicts that are right about it."""

    found: Verdict
    right: set[str]
    rank: int | None = None
    cause: str | None = None

    def check(self) -> None:
        found = self.found
        if found.kind == "unknown" or (found.kind == "wait_peer" and found.cause is None):
            return
        shown = (found.kind, found.rank, found.cause, found.sentence, found.evidence)
        assert found.kind in self.right, shown
        if self.rank is not None:
            assert found.rank == self.rank, shown
        if self.cause is not None:
            assert found.cause == self.cause, shown


def run(
    drawn: dict[str, Any],
    late: dict[int, dict[str, float]] | None = None,
    share: float = 1.0,
    **everywhere: float,
) -> Verdict:
    """Return the verdict on a run whose threads get a `share` of the processor time they want.

    An exchange that is given takes as long as that, whichever process has the cores.
    """
    ranks = drawn["ranks"]
    base = BASE | {"transfer": AGREED + BYTES / LINK if drawn["hosts"] > 1 else 0.001} | everywhere
    cpu = {part: base[part] / share for part in ("compute", "update", "other")}
    transfer = base["transfer"] / (1.0 if "transfer" in everywhere else share)
    rows = run_rows(
        ranks, STEPS, seed=drawn["seed"], jitter=drawn["noise"] / share, late=late,
        compile_step=False, **{**base, **cpu, "transfer": transfer},
    )  # fmt: skip
    for own in rows.values():
        own["bytes"] = BYTES
    wall = float(rows[0]["end"][-1] - rows[0]["begin"][0])
    # A thread that exchanges asks for messages all the time that there is an exchange.
    spun, worked = STEPS * transfer, STEPS * sum(cpu.values())
    # Who lacks cores is on a host that has none to spare.
    machine = share * ranks * (spun + worked) / (0.2 if share < 1 else 1.0)
    use = {
        "ran": share * (spun + worked), "waited": (1 - share) * (spun + worked), "wall": wall,
        "exchange_ran": share * spun, "exchange_waited": (1 - share) * spun,
        "cores": max(2.0, machine / wall) if share < 1 else 64.0, "machine": machine,
    }  # fmt: skip
    hosts = {rank: f"host{rank % drawn['hosts']}" for rank in range(ranks)}
    meta = {"link_bytes_per_s": LINK} if drawn["measured_link"] else {}
    context = Context(hosts=hosts, cores=dict.fromkeys(range(ranks), use), meta=meta)
    return verdict_of(Facts(merge(rows, {}), context))


def step_of(drawn: dict[str, Any]) -> float:
    transfer = AGREED + BYTES / LINK if drawn["hosts"] > 1 else 0.001
    return sum(BASE.values()) - BASE["transfer"] + transfer


@settings(max_examples=25, deadline=None)
@given(runs)
def test_a_calm_run_has_no_loss(drawn: dict[str, Any]) -> None:
    found = run(drawn, transfer=0.001)
    assert found.kind in ("compute", "unknown"), found.sentence


@settings(max_examples=30, deadline=None)
@given(runs, st.sampled_from(OWN), sizes)
def test_a_part_of_one_rank(drawn: dict[str, Any], part: str, size: float) -> None:
    rank = drawn["seed"] % drawn["ranks"]
    late = {rank: {part: max(size, 0.5) * step_of(drawn)}}
    # Of two losses the larger one is named: the link's is the other.
    right = {"wait_peer", "transfer"} if drawn["hosts"] > 1 and size < 1 else {"wait_peer"}
    found = run(drawn, late)
    blamed = found.kind == "wait_peer"
    Planted(found, right, rank if blamed else None, part if blamed else None).check()


@settings(max_examples=30, deadline=None)
@given(runs, st.sampled_from(["input", "update", "other"]), sizes)
def test_a_part_of_all_ranks(drawn: dict[str, Any], part: str, size: float) -> None:
    length = BASE[part] + max(size, 1.0) * step_of(drawn)
    Planted(run(drawn, None, 1.0, **{part: length}), {part}).check()


@settings(max_examples=30, deadline=None)
@given(runs, shares)
def test_cores_that_others_have(drawn: dict[str, Any], share: float) -> None:
    # Between hosts the exchange itself is a loss, with cores or without.
    right = {"cores"} if drawn["hosts"] == 1 else {"cores", "transfer"}
    Planted(run(drawn, share=share), right).check()


@settings(max_examples=40, deadline=None)
@given(runs, shares, st.floats(2.0, 40.0))
@example({"ranks": 2, "seed": 0, "noise": 0.0003, "hosts": 2, "measured_link": True}, 0.29, 21.0)
def test_a_slow_link_is_no_lack_of_cores(drawn: dict[str, Any], share: float, times: float) -> None:
    drawn = drawn | {"hosts": 2}
    transfer = AGREED + times * BYTES / LINK
    found = run(drawn, share=share, transfer=transfer)
    lost_to_link = (times - 1) * BYTES / LINK
    lost_to_cores = (1 / share - 1) * (sum(BASE.values()) - BASE["transfer"])
    clear = lost_to_link > 1.5 * lost_to_cores
    right = {"transfer"} if clear else {"transfer", "cores"}
    Planted(found, right).check()


def test_a_link_far_slower_than_cores_explain_is_named() -> None:
    drawn = {"ranks": 2, "seed": 3, "noise": 0.0003, "hosts": 2, "measured_link": True}
    found = run(drawn, share=0.29, transfer=0.213, compute=0.0004)
    assert found.kind == "transfer"
    assert "of what the link carried at the start" in found.sentence


def test_where_a_link_and_cores_both_explain_it_the_verdict_says_so() -> None:
    drawn = {"ranks": 2, "seed": 3, "noise": 0.0003, "hosts": 2, "measured_link": True}
    found = run(drawn, share=0.29, transfer=0.080, compute=0.0004)
    assert found.kind == "unknown"
    assert found.sentence.startswith("undecided: ")
    assert found.tries
