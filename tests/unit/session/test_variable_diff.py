from __future__ import annotations

import numpy as np
import pytest

from eai_notebook.engine import variable_digest
from eai_notebook.session import variable_diff


class Shell:
    def __init__(self, **variables: object) -> None:
        self.user_ns = variables


def difference(monkeypatch: pytest.MonkeyPatch, *values: object) -> str | None:
    """Compare `values` as if each were the variable x of a rank."""

    def on(rank: int) -> None:
        monkeypatch.setattr(variable_digest, "get_ipython", lambda: Shell(x=values[rank]))

    digests = {}
    for rank in range(len(values)):
        on(rank)
        digests[rank] = variable_digest.digest("x")
    found = variable_diff.first_difference(digests)
    if found is None:
        return None
    sides = []
    for rank in (found.even, found.odd[0]):
        on(rank)
        sides.append(None if "missing" in found.kinds else variable_digest.part("x", found.path))
    return variable_diff.describe_difference(found, *sides)


def test_equal_values_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    same = {"a": np.ones(3), "b": [1, "text", None]}
    assert difference(monkeypatch, same, same) is None
    assert difference(monkeypatch, np.array([np.nan]), np.array([np.nan])) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (np.zeros(4), np.zeros(4), np.array([0, 0, 0.5, -2])),
            "`x` of rank 2 differs from rank 0: max abs difference 2, 2 of 4 values, first at [2]",
        ),
        (({"a": 1, "b": 2}, {"a": 1, "b": 3}), "`x['b']` of rank 1 differs from rank 0: max abs"),
        ((np.zeros(2), np.zeros(3), np.zeros(3)), "`x` of rank 0 differs from rank 1: float64 [2]"),
        (([1, 2], [1]), "`x[1]` of rank 1 differs from rank 0: missing, on rank 0 int64 []"),
        (("left", "right"), "`x` of rank 1 differs from rank 0: 'right', on rank 0 'left'"),
        (([1, 2], [3, 4]), "1 more parts differ"),
        ((np.zeros(2, "uint8"), np.full(2, 255, "uint8")), "max abs difference 255, 2 of 2"),
    ],
)
def test_the_first_difference_is_named(
    monkeypatch: pytest.MonkeyPatch, values: tuple[object, ...], said: str
) -> None:
    assert said in str(difference(monkeypatch, *values))


def test_a_variable_that_is_nowhere_is_a_name_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variable_digest, "get_ipython", Shell)
    with pytest.raises(NameError):
        variable_digest.digest("x")


def test_a_model_is_compared_with_its_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    def model(rate: float) -> keras.Model:
        keras.utils.set_random_seed(1)
        made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
        made.compile(keras.optimizers.Adam(rate), "mse")
        made.optimizer.build(made.trainable_variables)
        return made

    assert difference(monkeypatch, model(0.1), model(0.1)) is None
    assert "learning_rate) of rank 1 differs" in str(
        difference(monkeypatch, model(0.1), model(0.2))
    )
    other = model(0.1)
    other.get_layer("out").kernel.assign([[5.0], [5.0]])
    assert "`x.weights[0]` (" in str(difference(monkeypatch, model(0.1), other))
    assert "/out/kernel) of rank 1" in str(difference(monkeypatch, model(0.1), other))
