"""`eai.io.images` and `imagenet`: which pictures, which part of them, and what of damaged ones."""

from __future__ import annotations

import io as streams
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from expected_errors import raises_code
from PIL import Image

from eai_notebook import io
from eai_notebook.formats.images.crops import CropSampler
from eai_notebook.formats.images.image_decode import decode_crop

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = ("ant", "bee", "cat")
SIZES = ((60, 90), (90, 60), (64, 64), (200, 300))


def picture(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture whose red channel rises to the right and green one downwards, blue by number."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    pixels[..., 2] = number * 4 % 256
    return pixels


def encoded(pixels: NDArray[np.uint8], kind: str = "jpeg", **options: Any) -> bytes:
    stream = streams.BytesIO()
    image = Image.fromarray(pixels)
    if options.pop("cmyk", False):
        image = image.convert("CMYK")
    image.save(stream, kind, **({"quality": 95, **options} if kind == "jpeg" else options))
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    number = 0
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for _ in range(20):
            pixels = picture(number, *SIZES[number % len(SIZES)])
            suffix = (".jpg", ".JPEG")[number % 2]
            (tmp_path / name / f"{number:03}{suffix}").write_bytes(encoded(pixels, subsampling=0))
            number += 1
    (tmp_path / "bee" / "notes.txt").write_text("not a picture")
    return tmp_path


def numbers_of(images: Any) -> Any:
    """Which picture each is, by its blue channel."""
    return np.rint(np.asarray(images)[..., 2].mean(axis=(1, 2)) / 4).astype(int).tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_picture_comes_once_with_its_class(folder: Path, shuffle: bool) -> None:
    data = io.images(folder, 8, height=32, width=32, shuffle=shuffle, shard=False)
    seen: dict[int, int] = {}
    for x, y in data:
        assert x["image"].dtype == np.uint8
        assert x["image"].shape[1:] == (32, 32, 3)
        seen |= dict(zip(numbers_of(x["image"]), y.numpy()[:, 0].tolist(), strict=True))
    assert seen == {number: number // 20 for number in range(60)}
    again = [label for _, y in data for label in y.numpy()[:, 0].tolist()]
    assert (again == sorted(again)) != shuffle


def test_views_differ_from_epoch_to_epoch_and_not_otherwise(folder: Path) -> None:
    def epoch(number: int, **options: Any) -> NDArray[np.uint8]:
        data = io.images(folder, 20, height=24, width=24, shuffle=False, shard=False, **options)
        data.epoch = number
        return np.concatenate([x["image"] for x, _ in data])

    np.testing.assert_array_equal(epoch(3), epoch(3, readers=1))
    assert (epoch(3) != epoch(4)).any(axis=(1, 2, 3)).mean() > 0.9
    assert (epoch(3) != epoch(3, seed=1)).any(axis=(1, 2, 3)).mean() > 0.9
    np.testing.assert_array_equal(epoch(3, augment=False), epoch(4, augment=False))


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_is_the_middle(size: tuple[int, int]) -> None:
    into = np.empty((48, 48, 3), np.uint8)
    assert decode_crop(
        np.frombuffer(encoded(picture(9, *size)), np.uint8),
        CropSampler(48, 48, augment=False),
        into,
    )
    side = 0.875 * min(size)
    for channel, axis, length in ((0, 1, size[1]), (1, 0, size[0])):
        line = into[..., channel].astype(float).mean(axis=1 - axis)
        ends = [255 * (0.5 + sign * side / length / 2 * 47 / 48) for sign in (-1, 1)]
        np.testing.assert_allclose(line[[0, -1]], ends, atol=6)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_large_parts_are_decoded_small_and_look_the_same(scale: int) -> None:
    size = (60 * scale + 3, 80 * scale + 5)
    pixels = np.frombuffer(encoded(picture(9, *size)), np.uint8)
    crops = CropSampler(48, 48, area=(0.999, 1.0), ratio=(1.33, 1.334), flip=False)
    box = crops.box(*size, pixels)
    into = np.empty((48, 48, 3), np.uint8)
    assert decode_crop(pixels, crops, into)
    for channel, axis, (first, length), whole in (
        (0, 1, (box.left, box.width), size[1]),
        (1, 0, (box.top, box.height), size[0]),
    ):
        line = into[..., channel].astype(float).mean(axis=1 - axis)
        middles = first + (np.arange(48) + 0.5) * length / 48
        np.testing.assert_allclose(line, 255 * middles / whole, atol=7)


def test_half_of_the_views_are_mirrored_and_within_the_recipe() -> None:
    boxes = [CropSampler(seed=seed).box(375, 500, b"x") for seed in range(2000)]
    assert 0.45 < np.mean([box.flip for box in boxes]) < 0.55
    for box in boxes:
        assert 0 <= box.top <= 375 - box.height
        assert 0 <= box.left <= 500 - box.width
        assert 0.079 < box.height * box.width / (375 * 500) <= 1
        assert 0.73 < box.width / box.height < 1.36
    flipped = CropSampler(32, 32, area=(1, 1), ratio=(1, 1))
    into = np.empty((32, 32, 3), np.uint8)
    rising = set()
    for seed in range(8):
        crops = CropSampler(32, 32, area=(1, 1), ratio=(1, 1), seed=seed)
        assert decode_crop(np.frombuffer(encoded(picture(1, 64, 64)), np.uint8), crops, into)
        rising.add(bool(into[0, 0, 0] < into[0, -1, 0]))
    assert rising == {True, False}
    long = flipped.box(10, 1000, b"")  # no square of all the area: the middle
    assert (long.height, long.width) == (10, 10)


def test_pictures_in_other_colours_and_formats() -> None:
    into = np.empty((32, 32, 3), np.uint8)
    crops = CropSampler(32, 32, augment=False)
    pixels = picture(35, 64, 64)
    for bytes_ in (encoded(pixels, "png"), encoded(pixels, cmyk=True), encoded(pixels)):
        assert decode_crop(np.frombuffer(bytes_, np.uint8), crops, into)
        assert abs(int(into[..., 2].mean()) - 140) < 12
        assert into[0, -1, 0] > into[0, 0, 0] + 150
    grey = streams.BytesIO()
    Image.fromarray(pixels).convert("L").save(grey, "jpeg")
    assert decode_crop(np.frombuffer(grey.getvalue(), np.uint8), crops, into)
    assert (into[..., 0] == into[..., 2]).all()
    for broken in (encoded(pixels)[:-300], b"", b"\xff\xd8\xff", b"text", encoded(pixels)[:90]):
        assert not decode_crop(np.frombuffer(broken, np.uint8), crops, into)


def test_pictures_that_are_none_are_named_or_left_out(folder: Path) -> None:
    for name in ("003.JPEG", "008.jpg"):
        path = folder / "ant" / name
        path.write_bytes(path.read_bytes()[:-200])
    options: dict[str, Any] = {"height": 16, "width": 16, "shard": False}
    with raises_code("image-damaged", "ant/00"):
        list(io.images(folder, 10, **options))
    data = io.images(folder, 10, on_error="skip", max_skipped=0.1, **options)
    assert sum(int(y.shape[0]) for _, y in data) == 58
    assert {path.rpartition("/")[2]: count for path, count in data.skipped.items()} == {
        "003.JPEG": 1,
        "008.jpg": 1,
    }


def test_what_cannot_be_meant_is_said(folder: Path, tmp_path: Path) -> None:
    with raises_code("image-class-unknown", "'cat'"):
        io.images(folder, 4, classes=["ant", "bee"])
    with raises_code("option-invalid", "0 x 224"):
        io.images(folder, 4, height=0)
    with raises_code("option-invalid", "area", "0.5", "2"):
        io.images(folder, 4, area=(0.5, 2))
    with raises_code("no-files", tmp_path / "ant"):
        io.images(tmp_path / "ant", 4)


def test_records_give_what_files_give(folder: Path) -> None:
    import tensorflow as tf

    files = sorted(path for path in folder.glob("*/*") if path.suffix != ".txt")
    for shard, few in enumerate((files[:25], files[25:])):
        with tf.io.TFRecordWriter(str(folder / f"train-{shard}.tfrecord")) as writer:
            for path in few:
                features = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[path.read_bytes()])
                    ),
                    "image/class/label": tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[1 + CLASSES.index(path.parent.name)])
                    ),
                    "image/height": tf.train.Feature(int64_list=tf.train.Int64List(value=[64])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    options: dict[str, Any] = {"height": 24, "width": 24, "shuffle": False, "shard": False}
    records = io.imagenet(folder / "*.tfrecord", 20, **options)
    plain = io.images(folder, 20, **options)
    for epoch in range(2):
        assert (records.epoch, plain.epoch) == (epoch, epoch)
        for (x, y), (image, label) in zip(records, plain, strict=True):
            np.testing.assert_array_equal(x["image"], image["image"], strict=True)
            np.testing.assert_array_equal(y, label, strict=True)
    with raises_code("row-bad", "class 1", "first_label"):
        list(io.imagenet(folder / "*.tfrecord", 20, first_label=2, **options))
    with raises_code("row-bad", "'jpeg'", "bytes"):
        list(io.imagenet(folder / "*.tfrecord", 20, encoded="jpeg", **options))
