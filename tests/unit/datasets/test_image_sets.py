"""Sets of pictures as files: every picture there once, in both layouts, and bad input."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from expected_errors import raises_code
from PIL import Image
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.datasets.image_sets import make_pictures
from eai_notebook.datasets.shapes import PlantedPictures

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()


def pixels(encoded: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def records(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the features of all records, file by file."""
    import tensorflow as tf

    found = []
    for file in sorted(folder.glob(pattern)):
        for record in tf.data.TFRecordDataset(str(file)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            found.append(
                {
                    name: (each.bytes_list.value or each.int64_list.value)[0]
                    for name, each in features.items()
                }
            )
    return found


def test_folders_hold_what_was_drawn(tmp_path: Path) -> None:
    truth = make_pictures(tmp_path / "set", pictures=80, classes=4, size=32, seed=3)
    drawn = PlantedPictures(4, 32, seed=3).draw(part=1, rows=70)
    assert (truth.train, truth.val) == (70, 10)
    names = sorted(folder.name for folder in (tmp_path / "set" / "train").iterdir())
    assert names == truth.classes
    files = {int(file.stem[-6:]): file for file in (tmp_path / "set" / "train").glob("*/*.jpg")}
    assert sorted(files) == list(range(70))
    for row, file in files.items():
        assert file.parent.name == names[drawn.labels[row]]
    # JPEG gives up colours' details, not light and dark.
    light = pixels(files[5].read_bytes()).mean(-1)
    assert np.abs(light - drawn.images[5].mean(-1)).mean() < 10
    assert np.abs(light - drawn.images[6].mean(-1)).mean() > 15
    held_out = list((tmp_path / "set" / "val").glob("*/*.jpg"))
    assert len(held_out) == 10


def test_records_are_those_of_imagenet(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    make_pictures(
        tmp_path / "set", layout="tfrecord", pictures=40, classes=3, size=24, shards=2, seed=1
    )
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "train-00000-of-00002",
        "train-00001-of-00002",
        "truth.json",
        "validation-00000-of-00001",
    ]
    train = records(tmp_path / "set", "train-*")
    drawn = PlantedPictures(3, 24, seed=1).draw(part=1, rows=35)
    by_name = {int(each["image/filename"][-11:-5]): each for each in train}
    assert sorted(by_name) == list(range(35))
    # Classes are counted from 1.
    assert [by_name[row]["image/class/label"] - 1 for row in range(35)] == drawn.labels.tolist()
    first = by_name[0]
    assert (first["image/height"], first["image/width"], first["image/channels"]) == (24, 24, 3)
    assert (first["image/colorspace"], first["image/format"]) == (b"RGB", b"JPEG")
    assert pixels(first["image/encoded"]).shape == (24, 24, 3)
    assert len(records(tmp_path / "set", "validation-*")) == 5


def test_digits_are_grey_and_real(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    truth = make_pictures(tmp_path / "set", kind="digits", pictures=5000, size=32)
    files = list((tmp_path / "set").glob("*/*/*.jpg"))
    assert (truth.train + truth.val, len(files)) == (1797, 1797)
    assert truth.classes == list("0123456789")
    counts = np.bincount(datasets.load_digits().target)
    assert [sum(file.parent.name == name for file in files) for name in truth.classes] == (
        counts.tolist()
    )
    assert pixels(files[0].read_bytes()).shape == (32, 32)


def test_same_set_is_not_written_again_and_another_needs_force(tmp_path: Path) -> None:
    def make(*options: str) -> str:
        said = RUN.invoke(app, ["make-data", "images", str(tmp_path / "set"), *options])
        if said.exception is not None:
            raise said.exception
        return said.stdout

    small = ("--pictures", "16", "--size", "8")
    assert make(*small).startswith("14 images to train on and 2 held out, 10 classes, in ")
    before = (tmp_path / "set" / "truth.json").stat().st_mtime_ns
    make(*small)
    assert (tmp_path / "set" / "truth.json").stat().st_mtime_ns == before
    with raises_code("folder-not-empty", tmp_path / "set"):
        make(*small, "--seed", "1")
    assert make(*small, "--seed", "1", "--force").startswith("14 ")
    assert json.loads((tmp_path / "set" / "truth.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "photographs"},
        {"layout": "zip"},
        {"pictures": 3},
        {"classes": 1},
        {"layout": "tfrecord", "shards": 0},
        {"kind": "digits", "size": 4},
    ],
)
def test_arguments_without_sense_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with raises_code("option-invalid"):
        make_pictures(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()
