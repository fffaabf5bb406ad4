"""Semantic hashing: an auto-encoder with a binary bottleneck, to find similar documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def autoencoder(
    vocabulary: int, *, hidden: Sequence[int] = (500, 250), bits: int = 32, noise: float = 4.0
) -> keras.Model:
    """Return a deep auto-encoder of word counts with a code of `bits` numbers in the middle.

    The code is a sigmoid of noisy values, so in training it learns to avoid values in the middle,
    and becomes bits (Salakhutdinov & Hinton 2009, "Semantic Hashing", section 3.2; Hinton & Salakhutdinov 2011, "Discovering Binary Codes for Documents by Learning
    Deep Generative Models"). Pre-train it layer by layer with `pretraining`, then as a whole.

    Compile it with ``"categorical_crossentropy"``; the label of a document is the share of
    each word in it, `word_shares` of its counts.

    Args:
        vocabulary: Number of words.
        hidden: Units of the layers before the code; the layers behind it are the same, reversed.
        bits: Numbers in the code.
        noise: Standard deviation of the noise in front of the code's sigmoid.

    Returns:
        An uncompiled model from word counts, float32 ``[batch, vocabulary]``, to the share
        of each word, the same shape. `encoder_of` gives the half up to the code.

    Raises:
        EaiError: A size is below 1, or the noise is negative.

    Examples:
        >>> model = autoencoder(200, hidden=(50,), bits=8)
        >>> model.output_shape, encoder_of(model).output_shape
        ((None, 200), (None, 8))
    """
    if min(vocabulary, bits, *hidden) < 1 or noise < 0:
        raise EaiError(
            f"invalid sizes {(vocabulary, tuple(hidden), bits)} or noise {noise}",
            "use sizes of at least 1, and noise of at least 0",
            code="option-invalid",
        )
    counts = keras.Input((vocabulary,), name="counts")
    # The logarithm keeps long documents from dominating, and rare words visible.
    values: Any = ops.log1p(counts)
    for number, units in enumerate(hidden, start=1):
        values = keras.layers.Dense(units, activation="relu", name=f"encode_{number}")(values)
    values = keras.layers.Dense(bits, name="code_logit")(values)
    if noise:
        # Keras's noise is at most 1: the layer before it learns in units of the noise.
        values = ops.multiply(keras.layers.GaussianNoise(1.0, name="noise")(values), noise)
    values = keras.layers.Activation("sigmoid", name="code")(values)
    for number, units in reversed(list(enumerate(hidden, start=1))):
        values = keras.layers.Dense(units, activation="relu", name=f"decode_{number}")(values)
    shares = keras.layers.Dense(vocabulary, activation="softmax", name="words")(values)
    return keras.Model(counts, shares, name="autoencoder")


def encoder_of(model: keras.Model) -> keras.Model:
    """Return the half of an `autoencoder` from counts to code, float32 ``[batch, bits]`` in 0-1.

    It shares the layers: training one trains both.
    """
    return keras.Model(model.input, model.get_layer("code").output, name="encoder")


def pretraining(model: keras.Model) -> Iterator[keras.Model]:
    """Yield the models that pre-train an `autoencoder` layer by layer, outermost first.

    A deep auto-encoder learns little from random weights, and well from layers that have each
    learned to reproduce their input. The n-th model has the n outer layers of either
    half, of which the innermost two are trained. Compile and fit it as the whole (the paper
    trains restricted Boltzmann machines here; this is the greedy layer-wise training of
    Bengio et al. 2007, which works with gradients). After the last one, all layers of
    `model` are trainable again.

    Examples:
        >>> model = autoencoder(200, hidden=(50, 20), bits=8)
        >>> [len(stage.trainable_variables) for stage in pretraining(model)]
        [4, 4]
        >>> len(model.trainable_variables)
        12
    """
    depth = sum(layer.name.startswith("encode_") for layer in model.layers)
    try:
        for number in range(1, depth + 1):
            yield _stage(model, number)
    finally:
        for layer in model.layers:
            layer.trainable = True


def _stage(model: keras.Model, depth: int) -> keras.Model:
    """Return the outer `depth` layers of either half, the innermost two trainable."""
    encode = [f"encode_{number}" for number in range(1, depth + 1)]
    decode = [f"decode_{number}" for number in range(depth - 1, 0, -1)] + ["words"]
    for layer in model.layers:
        layer.trainable = layer.name in (encode[-1], decode[0])
    values: Any = model.get_layer(encode[-1]).output
    for name in decode:
        values = model.get_layer(name)(values)
    return keras.Model(model.input, values, name=f"pretraining_{depth}")
