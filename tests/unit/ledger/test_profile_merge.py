"""A few steps in depth: the merged file and its words, and the whole of it on two ranks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from synthetic import START, run_record, run_rows

from eai_notebook.engine.step_profiler import longest
from eai_notebook.errors import EaiError
from eai_notebook.ledger import profile_merge
from eai_notebook.session import Session, Watcher
from eai_notebook.telemetry.messages import ProfileTaken, Track

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PreloadedRanks

TRAINING = """
import keras, numpy as np
import eai_notebook as eai
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(256, name="wide"),
                          keras.layers.Dense(1)])
model.compile(optimizer=eai.DistributedOptimizer(keras.optimizers.SGD(1e-3)), loss="mse")
x = np.random.default_rng(eai.rank()).normal(size=(4096, 64)).astype("float32")
eai.fit(model, (x, x[:, :1]), batch_size=32, epochs=1, verbose=0)
"""


def track(source: str, name: str, spans: list[tuple[str, float, float]]) -> Track:
    names = tuple(sorted({span[0] for span in spans}))
    return Track(
        source,
        name,
        names,
        np.array([names.index(span[0]) for span in spans], np.int32),
        np.array([span[1] for span in spans]),
        np.array([span[2] for span in spans]),
    )


def test_the_tracks_of_all_ranks_are_put_on_one_clock(tmp_path: Path) -> None:
    rows = run_rows(2, 40, compile_step=False)
    begin = float(rows[0]["end"][9])
    for stamp in ("begin", "end", "ready", "reduced"):
        rows[1][stamp] -= 100.0  # its clock is behind
    record = run_record(tmp_path, rows)
    record.info.clock_offset[1] = 100.0
    spans = [("train_step", begin, 0.012), ("wide/dense:MatMul", begin + 0.002, 0.008)]
    taken = {
        0: ProfileTaken("abc123", 0, 10, 29, (track("TensorFlow", "python", spans),)),
        1: ProfileTaken(
            "abc123",
            1,
            11,
            29,
            (track("TensorFlow", "python", [(n, at - 100.0, d) for n, at, d in spans]),),
            ("rank 1 has a note",),
        ),
    }
    file, words = profile_merge.write(record, taken)
    assert file == record.path / "trace-steps-11-29.json"
    content = json.loads(file.read_text())
    products = [e for e in content["traceEvents"] if e["name"] == "wide/dense:MatMul"]
    assert [e["pid"] for e in products] == [0, 1]
    zero = content["otherData"]["began_s"]
    assert zero == pytest.approx(begin, abs=1e-5)
    for event in products:
        assert event["ts"] == pytest.approx(1e6 * (begin + 0.002 - zero), abs=2)
    steps = [e for e in content["traceEvents"] if e["name"] == "step 11" and e["ph"] == "X"]
    assert [e["pid"] for e in steps] == [0, 1]
    assert steps[0]["ts"] == pytest.approx(steps[1]["ts"], abs=2000)
    assert "steps 11 to 29 of ranks 0-1 in depth" in words
    assert "MatMul" in words
    assert "train_step" not in words  # a function of Python's, no operation
    assert words.endswith("rank 1 has a note")


def test_what_horovod_did_is_reported_and_has_its_own_place(tmp_path: Path) -> None:
    record = run_record(tmp_path, run_rows(2, 20, compile_step=False))
    spans = []
    for step in range(10):
        at = START + 0.1 + 0.012 * step
        spans += [("NEGOTIATE_ALLREDUCE", at, 0.001), ("ALLREDUCE", at + 0.001, 0.004)]
        spans.append(("MPI_ALLREDUCE", at + 0.001, 0.003))
    tracks = (track("Horovod", "grad.wide", spans),)
    taken = {
        0: ProfileTaken("abc123", 0, 5, 14, tracks),
        1: ProfileTaken("abc123", 1, 5, 14, ()),
    }
    file, words = profile_merge.write(record, taken)
    assert "Horovod, a step: 1 exchanges, 1.00 ms until" in words
    assert "4.00 ms moving" in words
    assert "longest `grad.wide`" in words
    events = json.loads(file.read_text())["traceEvents"]
    assert {e["pid"] for e in events if "ALLREDUCE" in e["name"]} == {3}


def test_the_shortest_spans_are_left_out_and_counted() -> None:
    tracks = [
        track("TensorFlow", "a", [("x", 0.0, 1.0), ("y", 1.0, 3.0)]),
        track("TensorFlow", "b", [("x", 0.0, 0.5)]),
    ]
    kept, left_out = longest(tracks, 1)
    assert left_out == 2
    assert [(t.name, t.names[t.which[0]], len(t.which)) for t in kept] == [("a", "y", 1)]
    assert longest(tracks, 3) == (tracks, 0)


class Listener(Watcher):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, stream: str, text: str) -> None:  # noqa: ARG002
        self.said += text


@pytest.mark.ranks
@pytest.mark.slow
def test_two_ranks_record_the_same_steps(
    tmp_path: Path, monkeypatch: Any, preloaded_ranks: PreloadedRanks
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    listener = Listener()
    with preloaded_ranks(), Session(2, watcher=listener) as session:
        with pytest.raises(EaiError, match="0 steps cannot be recorded"):
            session.trace(0)
        assert session.trace(20).startswith("20 steps of the next run on ranks 0-1")
        session.run(TRAINING)
        (record,) = session.runs
    (file,) = profile_merge.deep_traces(record)
    assert file.name == "trace-steps-3-22.json"
    assert f"trace: {file}" in listener.said
    assert "steps 3 to 22 of ranks 0-1 in depth" in listener.said
    assert "TensorFlow's longest operations" in listener.said
    assert "Horovod, a step: " in listener.said
    events = json.loads(file.read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    for rank in range(2):
        own = [event for event in spans if event["pid"] == rank]
        steps = {event["name"]: event for event in own if event["name"].startswith("step ")}
        assert len(steps) == 20
        # TensorFlow's products lie within the steps whose work they are, on one clock.
        products = [event for event in own if event["name"].endswith("MatMul")]
        assert len(products) >= 20
        within = [
            any(s["ts"] <= p["ts"] <= s["ts"] + s["dur"] for s in steps.values()) for p in products
        ]
        assert np.mean(within) > 0.9
    exchanges = [event for event in spans if event["name"] == "ALLREDUCE"]
    assert len(exchanges) >= 20
