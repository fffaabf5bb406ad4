"""``wire="auto"``: tried on real steps, agreed on, shown, and kept only if it is quicker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eai_notebook.train.exchange.wire_autotune import (
    BLOCK,
    CANDIDATES,
    STEPS,
    WARM,
    _position,
    _tried,
    best,
    describe_choice,
)

RunRanks = Callable[..., list[Any]]


@pytest.mark.parametrize(
    ("medians", "kept"),
    [([1.0, 1.0, 1.0], 0), ([1.0, 0.98, 0.99], 0), ([1.0, 0.9, 0.95], 1), ([1.0, 2.0, 0.5], 2)],
)
def test_a_narrower_format_stays_only_if_the_step_got_quicker(
    medians: list[float], kept: int
) -> None:
    assert best(medians) == kept
    assert f"{CANDIDATES[kept]} stays" in describe_choice(medians)


def test_each_format_is_tried_equally_often_and_counted_where_it_has_settled() -> None:
    tried = [int(_tried(step)) for step in range(STEPS)]
    assert tried[:WARM] == [0] * WARM
    counted: dict[int, list[int]] = {}
    for step in range(STEPS):
        position = int(_position(step))
        if position >= 0:
            counted.setdefault(tried[step], []).append(position)
    size = (STEPS - WARM) // len(CANDIDATES) // BLOCK * (BLOCK - 1)
    for which, positions in counted.items():
        assert positions == list(range(which * size, (which + 1) * size))
    assert int(_position(STEPS)) == -1


def test_ranks_agree_and_the_slow_format_goes(run_ranks: RunRanks) -> None:
    """One rank alone takes long over int8, another over fp32: fp16 must be what is left."""
    reports = run_ranks(
        """
        import io, contextlib
        import keras, numpy as np, tensorflow as tf
        import eai_notebook as eai
        from eai_notebook import collective
        from eai_notebook.telemetry import messages
        from eai_notebook.train.exchange import wire_autotune
        collective.form()
        r = collective.rank()
        seen = []
        messages.set_sink(seen.extend)

        steps = wire_autotune.STEPS + 6
        messages.add_step_listener(lambda run, step: False)  # so that every step is measured

        # What each format's steps take, by a clock of this rank's own: no matter what else runs.
        slow = 2 if r else 0
        tried = [int(wire_autotune._tried(step)) for step in range(steps)]
        lengths = [0.1 if which == slow else 0.02 for which in tried]
        readings = tf.constant(np.cumsum([0.0, *lengths]))
        step = tf.Variable(0)
        wire_autotune.ready_time = lambda gradients: tf.gather(readings, step.assign_add(1) - 1)

        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100), keras.layers.Dense(1)])
        optimizer = eai.DistributedOptimizer(keras.optimizers.SGD(0.01), wire="auto")
        net.compile(optimizer, "mse")
        rng = np.random.default_rng(r)
        x, y = rng.normal(size=(4 * steps, 100)).astype("f4"), rng.normal(size=(4 * steps, 1))
        data = tf.data.Dataset.from_tensor_slices((x, y.astype("f4"))).batch(4)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            eai.fit(net, data, verbose=0)
        rows = np.concatenate([m.rows for m in seen if isinstance(m, messages.StepsDone)])
        (ended,) = [m for m in seen if isinstance(m, messages.RunEnded)]
        memory = optimizer.exchange_memory.state()
        report([said.getvalue(), int(memory["trial/kept"]), ended.notes, rows["bytes"].tolist(),
                [np.asarray(w).sum().item() for w in net.get_weights()]])
        """,
        2,
    )
    for rank, (said, kept, notes, sent, weights) in enumerate(reports):
        assert CANDIDATES[kept] == "fp16", said
        assert notes["wire"] == "fp16"
        assert list(notes["wire_trial_steps_s"]) == list(CANDIDATES)
        assert said.count('wire="auto": fp16 stays') == (rank == 0)
        assert weights == reports[0][4]
        # What is sent differs by format: all of it, half, a quarter; small ones as they are.
        known = [each for each in sent if each > 0]
        assert 0.45 < known[-1] / max(known) < 0.75
        assert min(known) < 0.4 * max(known)
