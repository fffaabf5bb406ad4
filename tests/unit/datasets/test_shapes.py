"""Pictures whose truth is known: what is in them, what is not, and that they can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from expected_errors import raises_code

from eai_notebook.datasets.shapes import MAX_CLASSES, PlantedPictures


def test_same_arguments_draw_the_same_and_parts_differ() -> None:
    planted = PlantedPictures(6, 16, seed=3)
    first, again, other = planted.draw(0, 40), planted.draw(0, 40), planted.draw(1, 40)
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.labels, other.labels)
    assert first.images.shape == (40, 16, 16, 3)
    assert first.images.dtype == np.uint8


def test_classes_are_named_and_balanced() -> None:
    planted = PlantedPictures(MAX_CLASSES, 8)
    labels = planted.draw(0, 6400).labels
    counts = np.bincount(labels, minlength=MAX_CLASSES)
    assert counts.min() > 130
    assert counts.max() < 270
    assert len(set(planted.names)) == MAX_CLASSES
    assert (planted.names[4], planted.names[12]) == ("solid-ring", "striped-ring")


def test_wrong_labels_are_as_many_as_the_best_top1_says() -> None:
    planted = PlantedPictures(5, 8, label_noise=0.4)
    drawn = planted.draw(0, 20_000)
    assert planted.best_top1 == pytest.approx(0.68)
    assert np.mean(drawn.labels == drawn.drawn) == pytest.approx(0.68, abs=0.02)


def test_without_nuisance_classes_differ_and_a_class_is_more_than_its_mean() -> None:
    clean = PlantedPictures(8, 32, nuisance=0).draw(0, 400)
    solid = np.abs(clean.images.astype(int) - clean.images[:, :1, :1].astype(int)).sum(-1) > 40
    covered = solid.mean(axis=(1, 2))
    by_class = [covered[clean.labels == label].mean() for label in range(8)]
    assert min(by_class) > 0.05
    assert max(by_class) < 0.6
    assert by_class[1] > 1.5 * by_class[6]  # a square covers more than a crescent


def test_colour_place_and_brightness_say_nothing_about_the_class() -> None:
    pictures = PlantedPictures(2, 16).draw(0, 4000)
    corner = pictures.images[:, 0, 0].astype(float)
    for values in (corner[:, 0], corner[:, 1], corner[:, 2], corner.sum(axis=1)):
        assert abs(np.corrcoef(values, pictures.labels)[0, 1]) < 0.06


def test_pieces_are_what_draw_returns() -> None:
    planted = PlantedPictures(4, 512)
    pieces = list(planted.batches(0, 20))
    assert len(pieces) == 2
    whole = planted.draw(0, 20)
    np.testing.assert_array_equal(np.concatenate([p.images for p in pieces]), whole.images)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 1},
        {"classes": MAX_CLASSES + 1},
        {"size": 4},
        {"label_noise": 1.5},
        {"nuisance": -1.0},
        {"seed": -1},
    ],
)
def test_numbers_without_sense_are_refused(options: dict[str, Any]) -> None:
    with raises_code("option-invalid"):
        PlantedPictures(**options)


def test_no_pictures_are_refused() -> None:
    with raises_code("option-invalid", "0"):
        PlantedPictures().draw(0, 0)
