"""Replicas are compared: a difference is named, and where there is none nothing is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.train.replica_check import ReplicaCheck, checksum, first_difference

RunRanks = Callable[..., list[Any]]


def test_a_checksum_sees_one_bit_and_the_order() -> None:
    values = np.arange(8, dtype="f4").reshape(2, 4)
    other = values.copy()
    other[1, 3] = np.nextafter(other[1, 3], 9, dtype="f4")
    assert len({checksum(values), checksum(other), checksum(values[::-1])}) == 3
    assert checksum(values) == checksum(values.copy())
    assert checksum(np.float32(1.5)) != checksum(np.float32(2.5))


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ([[1, 2], [1, 2]], None),
        ([[1, 2], [1, 3]], (1, [1])),
        ([[9, 2], [1, 3], [1, 3]], (0, [0])),
        ([[1, 2], [1, 3], [1, 2], [1, 4]], (1, [1, 3])),
    ],
)
def test_the_ranks_outside_the_majority_are_named(table: list[list[int]], found: Any) -> None:
    assert first_difference(np.array(table)) == found


def test_no_steps_between_checks_is_refused() -> None:
    with pytest.raises(EaiError, match="check_every is 0"):
        ReplicaCheck(0)


def test_replicas_that_drift_apart_are_named_on_all_ranks(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        """
        import keras, numpy as np
        import eai_notebook as eai
        from eai_notebook import collective
        from eai_notebook.errors import EaiError
        collective.ensure_formed()
        rank = eai.rank()
        x = np.random.default_rng(rank).normal(size=(40, 3)).astype("float32")

        class Meddles(keras.callbacks.Callback):
            steps = 0
            def on_train_batch_end(self, batch, logs=None):
                self.steps += 1
                if rank == 1 and batch == 1:
                    bias = self.model.get_layer("deep").bias
                    bias.assign(np.asarray(bias) + 1e-3)  # more than later steps round away

        def train(meddle, **more):
            deep = keras.layers.Dense(4, name="deep")
            model = keras.Sequential([keras.Input((3,)), deep, keras.layers.Dropout(0.5),
                                      keras.layers.BatchNormalization(), keras.layers.Dense(1)],
                                     name="net")
            model.compile("adam", "mse")
            try:
                eai.fit(model, (x, x[:, :1]), 2, batch_size=4, callbacks=meddle, verbose=0, **more)
            except EaiError as error:
                return str(error)

        late, early = Meddles(), Meddles()
        report([train([]), train([], check_every=1), train([late]), late.steps,
                train([early], check_every=4), early.steps])
        """,
        2,
    )
    assert reports[0] == reports[1]
    healthy, closely, at_epoch_end, all_steps, at_step, some_steps = reports[0]
    assert (healthy, closely) == (None, None)
    assert at_epoch_end.startswith("replicas differ: `net/deep/bias` of rank 1 is not what")
    assert "eai.DistributedOptimizer" in at_epoch_end
    # A step's difference spreads over the weights that it was trained with.
    assert at_step.startswith("replicas differ: `net/deep/")
    assert (all_steps, some_steps) == (10, 4)
