"""DSSM and letter trigrams: hashing, scores, and learning from clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.models import clicked_places, dssm, hash_trigrams

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {"buckets": 200, "length": 12, "hidden": (24,), "dim": 8}


def hashed(texts: list[str]) -> Any:
    return hash_trigrams(texts, length=12, buckets=200)


def test_words_share_the_trigrams_they_have_in_common() -> None:
    plant, plants, other = (set(row) - {0} for row in hash_trigrams(["plant", "plants", "zebu"]))
    assert len(plant & plants) == 4
    assert not plant & other


def test_a_text_is_cut_and_filled_up() -> None:
    rows = hash_trigrams(["abcd", "a"], length=3)
    assert rows.shape == (2, 3)
    assert np.all(rows[0] > 0)
    assert np.count_nonzero(rows[1]) == 1


def test_scores_are_smoothed_cosines_of_each_query_and_every_document() -> None:
    model = dssm(**SMALL, unclicked=1)
    queries = hashed(["one", "two", "three"])
    documents = hashed(["ein", "kein", "zwei", "kein", "drei", "kein"])
    scores = model.predict({"query": queries, "documents": documents.reshape(3, 2, 12)}, verbose=0)
    assert scores.shape == (3, 6)
    ours = model.get_layer("query_tower").predict(queries, verbose=0)
    theirs = model.get_layer("document_tower").predict(documents, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(scores, 10 * ours @ theirs.T, atol=1e-4)


def test_filling_up_adds_nothing() -> None:
    tower = dssm(**SMALL).get_layer("query_tower")
    short = hash_trigrams(["one"], length=12, buckets=200)
    before = tower.predict(short, verbose=0)
    table = tower.get_layer("query_tower_trigrams")
    weights = table.get_weights()[0]
    weights[0] += 5
    table.set_weights([weights])
    np.testing.assert_array_equal(tower.predict(short, verbose=0), before)


def test_it_learns_which_document_was_clicked() -> None:
    keras.utils.set_random_seed(0)
    queries = hashed(["sofa", "auto", "haus", "boot"] * 8)
    titles = hashed(["couch", "car", "home", "ship"])
    documents = np.stack([titles[np.arange(32) % 4], titles[(np.arange(32) + 1) % 4]], axis=1)
    model = dssm(**SMALL, unclicked=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    # Batches of four different titles: a title twice would be its own wrong answer.
    model.fit(
        {"query": queries, "documents": documents},
        np.tile(clicked_places(4, 1), 8),
        batch_size=4,
        epochs=10,
        shuffle=False,
        verbose=0,
    )
    ours = model.get_layer("query_tower").predict(queries[:4], verbose=0)
    theirs = model.get_layer("document_tower").predict(titles, verbose=0)
    assert (ours @ theirs.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_it_loads_in_plain_keras(tmp_path: Path) -> None:
    model = dssm(**SMALL)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = {"query": hashed(["one", "two"]), "documents": hashed(["three", "four"])[:, None]}
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("options", [{"dim": 0}, {"hidden": (0,)}, {"unclicked": -1}])
def test_wrong_sizes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EaiError, match="invalid sizes"):
        dssm(**{**SMALL, **options})


def test_wrong_hashing_is_refused() -> None:
    with pytest.raises(EaiError, match="at least 2 buckets"):
        hash_trigrams(["a"], buckets=1)
