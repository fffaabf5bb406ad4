"""The auto-encoder: its stages, its bits, and equal codes for similar documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from expected_errors import raises_code

from eai_notebook.datasets.documents import make_documents, read_documents
from eai_notebook.errors import EaiError
from eai_notebook.models import (
    autoencoder,
    binary_codes,
    encoder_of,
    hamming_ball,
    hamming_distances,
    pretraining,
    word_shares,
)

if TYPE_CHECKING:
    from pathlib import Path


def two_kinds(rows: int) -> Any:
    """Documents of even words, then of odd ones."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (rows, 40)).astype(np.float32)
    counts[: rows // 2, ::2] = 0
    counts[rows // 2 :, 1::2] = 0
    return counts


def test_each_stage_trains_the_two_layers_that_are_new() -> None:
    model = autoencoder(40, hidden=(16, 8), bits=4)
    stages = [[v.path.split("/")[0] for v in s.trainable_variables] for s in pretraining(model)]
    assert stages == [["encode_1"] * 2 + ["words"] * 2, ["encode_2"] * 2 + ["decode_1"] * 2]
    assert all(layer.trainable for layer in model.layers)


def test_a_stage_trains_the_model_itself() -> None:
    model = autoencoder(40, hidden=(16, 8), bits=4)
    counts = two_kinds(32)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    stage = next(iter(pretraining(model)))
    stage.compile("adam", "categorical_crossentropy")
    stage.fit(counts, word_shares(counts), verbose=0)
    changed = [
        layer.name
        for layer in model.layers
        if any(
            not np.array_equal(a, b)
            for a, b in zip(layer.get_weights(), before[layer.name], strict=True)
        )
    ]
    assert changed == ["encode_1", "words"]


def test_codes_of_like_documents_are_near() -> None:
    keras.utils.set_random_seed(1)
    counts = two_kinds(128)
    model = autoencoder(40, hidden=(16,), bits=8, noise=2.0)
    model.compile(keras.optimizers.Adam(0.02), "categorical_crossentropy")
    model.fit(counts, word_shares(counts), epochs=30, verbose=0)
    codes = binary_codes(encoder_of(model), counts)
    assert codes.shape == (128, 1)
    mine, other = (
        hamming_distances(codes[half], codes[0]) for half in (slice(64), slice(64, None))
    )
    assert mine.mean() + 2 < other.mean()


def test_the_ball_holds_what_is_near_nearest_first() -> None:
    codes = np.array([[0b1111, 0], [0b0111, 0], [0b0111, 1], [0xFF, 0xFF]], np.uint8)
    assert hamming_ball(codes, codes[1], 1).tolist() == [1, 0, 2]
    assert hamming_ball(codes, codes[1], 16).tolist() == [1, 0, 2, 3]


def test_shares_sum_to_one_and_an_empty_document_is_named() -> None:
    counts = two_kinds(8)
    np.testing.assert_allclose(word_shares(counts).sum(axis=1), 1, rtol=1e-6)
    counts[5] = 0
    with pytest.raises(EaiError, match="document 5 has no word"):
        word_shares(counts)


def test_it_loads_in_plain_keras(tmp_path: Path) -> None:
    encoder = encoder_of(autoencoder(40, hidden=(16,), bits=8))
    encoder.save(tmp_path / "encoder.keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    counts = two_kinds(4)
    np.testing.assert_array_equal(
        again.predict(counts, verbose=0), encoder.predict(counts, verbose=0)
    )


@pytest.mark.parametrize("options", [{"bits": 0}, {"hidden": (0,)}, {"noise": -1.0}])
def test_wrong_sizes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EaiError, match="invalid sizes"):
        autoencoder(40, **options)


def test_documents_are_written_and_read_back_as_scikit_learn_does(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    make_documents(tmp_path / "a", documents=60, vocabulary=200, topics=4, seed=2)
    make_documents(tmp_path / "b", documents=60, vocabulary=200, topics=4, seed=2)
    assert (tmp_path / "a" / "train.svm").read_bytes() == (
        tmp_path / "b" / "train.svm"
    ).read_bytes()
    found = read_documents(tmp_path / "a" / "test.svm", vocabulary=200)
    counts, topics = datasets.load_svmlight_file(
        str(tmp_path / "a" / "test.svm"), n_features=200, zero_based=False
    )
    assert len(found) == 10
    np.testing.assert_array_equal(found.counts, counts.toarray())
    np.testing.assert_array_equal(found.topics, topics)
    assert len(found.part(1, 3)) == 3
    np.testing.assert_array_equal(found.part(1, 3).topics, found.topics[[1, 4, 7]])


@pytest.mark.parametrize("row", ["1 0:2", "1 6:2", "1 3", "one 1:2", ""])
def test_a_bad_document_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "documents.svm"
    path.write_text(f"1 5:2 # fine\n{row}\n")
    with raises_code("row-bad", "documents.svm", "row 2"):
        read_documents(path, vocabulary=5)
