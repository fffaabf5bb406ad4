"""Image models: sizes, initial state and weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.models import (
    SyncBatchNormalization,
    inception_v3,
    resnet50,
    resnet101,
    small_resnet,
    vgg16,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def large() -> keras.Model:
    """Return ResNet-50, which takes seconds to build."""
    return resnet50(image=(32, 32, 3))


def test_resnet50_is_the_published_one_and_answers_with_logits(large: keras.Model) -> None:
    assert large.count_params() == 25_636_712
    logits = large(PIXELS)
    assert logits.shape == (2, 1000)
    assert np.min(logits) < 0


def test_residual_blocks_begin_as_the_identity(large: keras.Model) -> None:
    names = [layer.name for layer in large.layers if hasattr(layer, "gamma")]
    begin_at_zero = {name for name in names if not np.any(large.get_layer(name).gamma)}
    assert begin_at_zero == {name for name in names if name.endswith("_3_bn")}
    assert len(begin_at_zero) == 3 + 4 + 6 + 3


def test_kernels_decay_and_nothing_else_does(large: keras.Model) -> None:
    decaying = [v for v in large.trainable_variables if v.regularizer is not None]
    assert len(decaying) == 1 + 3 * 16 + 4 + 1  # the stem, blocks, short cuts, logits
    assert all(variable.path.endswith("/kernel") for variable in decaying)
    expected = 1e-4 / 2 * sum(float(np.sum(np.square(v))) for v in decaying)
    assert float(sum(large.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "side", "parameters"),
    [(resnet101, 32, 44_707_176), (inception_v3, 75, 23_851_784)],
)
def test_deeper_models_are_the_published_ones_with_the_chosen_batch_norm(
    build: Callable[..., keras.Model], side: int, parameters: int
) -> None:
    model = build(image=(side, side, 3), batch_norm="synchronised")
    assert model.count_params() == parameters
    normal = [la for la in model.layers if isinstance(la, keras.layers.BatchNormalization)]
    assert normal
    assert all(isinstance(layer, SyncBatchNormalization) for layer in normal)


def test_vgg16_has_its_thirteen_convolutions_and_three_dense_layers() -> None:
    model = vgg16(10, image=(32, 32, 3))
    kernels = [v.shape for v in model.trainable_variables if v.path.endswith("/kernel")]
    assert [len(shape) for shape in kernels] == [4] * 13 + [2] * 3
    # The first dense layer sees what is left of the picture after five halvings.
    assert kernels[13] == (512, 4096)
    assert kernels[15] == (4096, 10)


def test_small_resnet_has_the_layers_its_name_says() -> None:
    model = small_resnet(7, blocks=2, width=4)
    weighty = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [la.name for la in model.layers if isinstance(la, weighty)]
    assert model.name == "small_resnet14"
    assert len([name for name in layers if "_0_conv" not in name]) == 14
    assert model(PIXELS).shape == (2, 7)
    # The blocks are nothing yet, and the logits nearly so.
    assert np.abs(model(PIXELS)).max() < 1


def test_options_change_how_a_model_begins() -> None:
    model = small_resnet(width=4, zero_gamma=False, weight_decay=0, batch_norm="synchronised")
    normal = [la for la in model.layers if isinstance(la, SyncBatchNormalization)]
    assert len(normal) == 1 + 3 * 2 + 2
    assert all(np.all(np.asarray(layer.gamma) == 1) for layer in normal)
    assert model.losses == []


@pytest.mark.parametrize(
    "options",
    [
        {"image": (4, 4, 3)},
        {"image": (32, 32)},
        {"classes": 0},
        {"width": 0},
        {"blocks": 0},
        {"batch_norm": "global"},
        {"weight_decay": -1.0},
    ],
)
def test_what_a_model_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EaiError):
        small_resnet(**options)


def test_inception_needs_larger_pictures_than_a_resnet() -> None:
    with pytest.raises(EaiError, match="at least \\(75, 75, 1\\)"):
        inception_v3(image=(64, 64, 3))
