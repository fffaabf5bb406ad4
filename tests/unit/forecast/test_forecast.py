"""A forecast of a known truth lies in its band, is kept with a hash, and refuses what it cannot say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.errors import EaiError
from eai_notebook.forecast import receipt
from eai_notebook.forecast.asked import rank_numbers, rate_of
from eai_notebook.forecast.scaling_figure import draw
from eai_notebook.forecast.slowest_rank import Work
from eai_notebook.forecast.step_forecast import Fit, Scenario, forecast
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import merge

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.ledger.run_record import RunRecord

GRADIENTS, LINK, AGREED, LATENCY = 4e6, 125e6, 0.001, 50e-6


def facts(ranks: int, seed: int, jitter: float = 0.001, link: float = LINK) -> Facts:
    """Return a run on a ring of hosts whose exchange is known."""
    moved = GRADIENTS * 2 * (ranks - 1) / ranks
    agreed = AGREED + 2 * (ranks - 1) * 4 * LATENCY
    rows = run_rows(ranks, 400, seed=seed, jitter=jitter, transfer=moved / link + agreed)
    for own in rows.values():
        own["bytes"], own["hidden"] = moved, 0.0
    hosts = {rank: f"h{rank}" for rank in range(ranks)}
    return Facts(merge(rows, {}), Context(hosts=hosts, meta={"link_bytes_per_s": link}))


@pytest.mark.parametrize("jitter", [0.0002, 0.002])
@pytest.mark.parametrize("ranks", [2, 4, 16])
def test_the_truth_of_more_ranks_is_in_the_band(ranks: int, jitter: float) -> None:
    (point,) = forecast(Fit.of(facts(2, 1, jitter)), [ranks])
    truth = facts(ranks, 2, jitter).step
    assert point.step == pytest.approx(truth, rel=0.05)
    assert 0.98 * point.low <= truth <= 1.02 * point.high


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_another_link_is_forecast(factor: float) -> None:
    (point,) = forecast(Fit.of(facts(2, 1)), [4], Scenario(link=factor * LINK))
    assert point.step == pytest.approx(facts(4, 3, link=factor * LINK).step, rel=0.06)


def test_half_the_bytes_take_half_the_time_on_the_link() -> None:
    fp32, fp16 = (
        forecast(Fit.of(facts(2, 1)), [2], Scenario(wire=wire))[0].step for wire in (None, "fp16")
    )
    assert fp32 - fp16 == pytest.approx(GRADIENTS / LINK / 2, rel=0.02)


def test_what_does_not_follow_is_refused() -> None:
    fit, alone = Fit.of(facts(2, 1)), Fit.of(facts(1, 1))
    assert "no exchange of more than 16 ranks" in forecast(fit, [32])[0].refused
    assert "measure two" in forecast(alone, [2])[0].refused
    assert not forecast(alone, [1])[0].refused
    far = forecast(Fit.of(facts(16, 1)), [10_000])[0].refused
    assert "do not show the slowest of 10000" in far
    with pytest.raises(EaiError) as caught:
        Fit.of(Facts(merge(run_rows(2, 12), {})))
    assert caught.value.code == "forecast-steps"


def test_a_persistent_straggler_does_not_grow_with_the_ranks() -> None:
    rng = np.random.default_rng(1)
    own = 0.010 + rng.normal(0, 1e-5, (4, 500))
    own[2] += 0.005
    work = Work.of(own)
    assert work.slowest(4) == pytest.approx(0.015, rel=0.02)
    assert work.slowest(16) - work.slowest(4) < 2e-5


def test_a_straggler_leaves_the_chance_of_the_others_no_room() -> None:
    rng = np.random.default_rng(2)
    own = 0.010 + rng.normal(0, 0.0005, (2, 500))
    own[1] += 0.005
    work = Work.of(own)
    assert work.slowest(8) == pytest.approx(0.015, rel=0.01)  # and not 0.0157
    # Were half of the others as slow, it would be the slowest of four such ranks.
    assert work.slowest(8, np.repeat(work.offsets, 3)) > 0.0153


def overlapping(ranks: int, latency: float, leads: list[float], *, noted: bool = True) -> Facts:
    """Return a run whose four groups of gradients leave one after another, while it computes."""
    compute, wire = 0.020, GRADIENTS * 2 * (ranks - 1) / ranks / LINK
    begins = [compute * (1 - lead) for lead in leads]
    free, hidden = 0.0, 0.0
    for begin in begins:
        start, before = max(free, begin), free
        free = start + wire / 4 + 2 * (ranks - 1) * latency
        hidden += max(min(free, compute) - max(begin, before), 0.0)
    rows = run_rows(ranks, 200, seed=1, jitter=1e-6, compute=compute, transfer=free - compute)
    for own in rows.values():
        own["bytes"], own["hidden"] = GRADIENTS * 2 * (ranks - 1) / ranks, hidden
    meta = {"link_bytes_per_s": LINK, "link_message_s": latency, "group_leads": leads}
    hosts = {rank: f"h{rank}" for rank in range(ranks)}
    return Facts(
        merge(rows, {}), Context(hosts=hosts, meta=meta if noted else {"link_bytes_per_s": LINK})
    )


@pytest.mark.parametrize("latency", [20e-6, 250e-6])
@pytest.mark.parametrize("leads", [[0.6, 0.4, 0.2, 0.0], [0.1, 0.05, 0.02, 0.0]])
def test_what_was_measured_of_groups_and_messages_is_replayed(
    latency: float, leads: list[float]
) -> None:
    (point,) = forecast(Fit.of(overlapping(2, latency, leads)), [8])
    assert point.step == pytest.approx(overlapping(8, latency, leads).step, rel=0.02)


def test_what_was_not_measured_widens_the_band() -> None:
    known, assumed = (
        forecast(Fit.of(overlapping(2, 100e-6, [0.1, 0.05, 0.02, 0.0], noted=noted)), [8])[0]
        for noted in (True, False)
    )
    assert assumed.high - assumed.low > 1.1 * (known.high - known.low)


def test_strong_scaling_divides_what_a_rank_computes() -> None:
    weak, strong = (
        forecast(Fit.of(facts(2, 1)), [4], Scenario(strong=each))[0].step for each in (False, True)
    )
    assert weak - strong == pytest.approx(0.005, rel=0.15)


def record(folder: Path, ranks: int, name: str) -> RunRecord:
    made = run_record(folder, run_rows(ranks, 200, seed=ranks))
    made.note(model="wide_deep", optimizer="sgd", wire="fp32")
    return type(made)(made.path.rename(folder / name))


def test_a_receipt_is_kept_and_checked_against_a_later_run(tmp_path: Path) -> None:
    first = record(tmp_path, 2, "20300101-first")
    made = receipt.make(first, [2, 4, 90], Scenario())
    file = receipt.keep(first, made)
    assert receipt.read(file) == made
    text = receipt.to_text(made)
    assert made["hash"][:12] in text
    assert "no forecast: no exchange of more than 16 ranks" in text
    lines = receipt.to_csv(made).splitlines()
    assert lines[0].startswith("ranks,step_ms,low_ms,high_ms")
    assert len(lines) == 4
    assert draw(made, tmp_path / "scaling.svg").stat().st_size > 1000
    later = record(tmp_path, 4, "20300102-later")
    later.info.run, later.info.started = "later", made["made"] + 1
    (line,) = receipt.checked(later, tmp_path)
    assert line.startswith(f"forecast {made['hash'][:12]} of run abc123: ")
    changed = json.loads(file.read_text())
    changed["points"][0]["step_ms"] *= 1.1
    file.write_text(json.dumps(changed))
    with pytest.raises(EaiError) as caught:
        receipt.read(file)
    assert caught.value.code == "forecast-damaged"
    assert receipt.checked(later, tmp_path) == []


@pytest.mark.parametrize("text", ["", "x", "0,2", "-1"])
def test_numbers_of_ranks_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(EaiError) as caught:
        rank_numbers(text)
    assert caught.value.code == "forecast-ranks"


@pytest.mark.parametrize("text", ["25", "fast", "-1Gbit", "0Gbit", "1..2Gbit"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EaiError) as caught:
        rate_of(text)
    assert caught.value.code == "forecast-ranks"
