"""Random crops: their content and range."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from eai_notebook.errors import EaiError
from eai_notebook.models import RandomView

ROWS = 64
# A pixel's colours say where it is: down, right, and a constant.
DOWN, RIGHT = np.meshgrid(np.arange(40.0), np.arange(60.0), indexing="ij")
PLACES = np.broadcast_to(np.stack([DOWN, RIGHT, DOWN * 0 + 7], -1), (ROWS, 40, 60, 3))


def sides(views: tf.Tensor) -> tuple[Any, Any]:
    """Return how many pixels down and right (below 0: mirrored) each view goes over."""
    seen = np.asarray(views)
    return seen[:, -1, 0, 0] - seen[:, 0, 0, 0], seen[:, 0, -1, 1] - seen[:, 0, 0, 1]


def test_crops_have_the_area_and_ratio_asked_for() -> None:
    view = RandomView(10, 12, area=(0.1, 0.5), ratio=(0.8, 1.25), seed=1)
    views = view(PLACES.astype(np.float32), training=True)
    assert views.shape == (ROWS, 10, 12, 3)
    down, right = sides(views)
    area = down * np.abs(right) / (39 * 59)
    assert 0.09 < area.min() < 0.2
    assert 0.4 < area.max() < 0.51
    ratio = np.abs(right) / down
    assert ratio.min() > 0.75
    assert ratio.max() < 1.33
    # Nothing from outside of the picture.
    np.testing.assert_allclose(views[..., 2], 7, rtol=1e-5)


def test_about_every_second_one_is_mirrored_and_none_if_not_asked() -> None:
    pixels = PLACES.astype(np.uint8)
    mirrored = np.mean(sides(RandomView(8, 8, seed=2)(pixels, training=True))[1] < 0)
    assert 0.3 < mirrored < 0.7
    assert np.all(sides(RandomView(8, 8, flip=False, seed=2)(pixels, training=True))[1] > 0)


def test_each_call_draws_other_views_and_the_seed_repeats_them() -> None:
    first, same = RandomView(8, 8, seed=3), RandomView(8, 8, seed=3)
    one, two = first(PLACES, training=True), first(PLACES, training=True)
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, same(PLACES, training=True))


def test_when_not_training_the_whole_picture_is_resized() -> None:
    views = RandomView(40, 60)(PLACES.astype(np.float32))
    np.testing.assert_allclose(views, PLACES, atol=1e-4)


def test_it_works_in_the_input_and_survives_its_config() -> None:
    view = RandomView.from_config(RandomView(6, 9, area=(0.5, 1), seed=4).get_config())
    data = tf.data.Dataset.from_tensor_slices(PLACES.astype(np.uint8)).batch(16)
    (first, *_) = data.map(lambda x: view(x, training=True))
    assert first.shape == (16, 6, 9, 3)
    assert keras.Sequential([keras.Input((40, 60, 3)), view]).output_shape == (None, 6, 9, 3)


@pytest.mark.parametrize(
    "options", [{"height": 0}, {"area": (0.5, 0.1)}, {"area": (0.5, 2)}, {"ratio": (0, 1)}]
)
def test_views_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EaiError, match="views of"):
        RandomView(**options)
