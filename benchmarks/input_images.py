"""What does a training's view of a JPEG cost: decoding, a random crop, 224 x 224 pixels?

Pictures per CPU second, everything in one process and in turns, files in the page cache: photographs
of ImageNet's usual size (500 x 375 pixels), and large ones (1280 x 853), as JPEG files in folders. They
are parts of scikit-learn's two sample photographs, at a quality that gives them about as many bytes a
pixel as photographs have. Batches of 64 pictures of 224 x 224 x 3 bytes and their classes:

- ours, `eai.io.images`;
- tf.data with `decode_and_crop_jpeg`, which decodes only the rows that are needed, and with its
  fastest settings (`INTEGER_FAST`, no fancy upscaling);
- tf.data with PIL, with `draft` for decoding at a smaller size, in `numpy_function`;
- decoding alone, by libjpeg-turbo at its fastest, without a crop or a batch: no reader that decodes
  whole pictures on these cores can be cheaper.

All draw their crops by the same recipe (8 % to 100 % of the area, sides from 3:4 to 4:3, mirrored every
second time). The crops differ, but their mean size is; each reader's mean pixel is
compared.
"""

from __future__ import annotations

import argparse
import io as streams
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import simplejpeg
import tensorflow as tf
from _harness import finish, say
from _input import Contest
from PIL import Image
from sklearn.datasets import load_sample_images

from eai_notebook import io
from eai_notebook.formats.images.crops import CropSampler

BATCH, SIDE = 64, 224
CLASSES = 4
SIZES = {"usual": (375, 500, 92), "large": (853, 1280, 90)}
AUTOTUNE = tf.data.AUTOTUNE


def write(folder: Path, size: tuple[int, int, int], count: int) -> None:
    """Write parts of photographs as JPEG files, in one folder a class."""
    height, width, quality = size
    photos = load_sample_images().images
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % len(photos)]
        share = rng.uniform(0.78, 1.0)
        wide = int(photo.shape[1] * share)
        high = min(wide * height // width, photo.shape[0])
        top, left = rng.integers(0, photo.shape[0] - high + 1), rng.integers(0, 640 - wide + 1)
        part = Image.fromarray(photo[top : top + high, left : left + wide])
        home = folder / f"class-{number % CLASSES}"
        home.mkdir(parents=True, exist_ok=True)
        part = part.resize((width, height), Image.Resampling.BICUBIC)
        part.save(home / f"{number:05}.jpg", quality=quality)


def labelled(folder: Path) -> Any:
    """Return files and classes as a dataset."""
    files = sorted(str(path) for path in folder.glob("*/*.jpg"))
    classes = [int(Path(file).parent.name.rpartition("-")[2]) for file in files]
    return tf.data.Dataset.from_tensor_slices((files, classes)).shuffle(len(files), seed=0)


def by_tensorflow(folder: Path, **settings: Any) -> Any:
    """The way of TensorFlow's own ImageNet examples."""

    def made(file: Any, label: Any) -> Any:
        encoded = tf.io.read_file(file)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros([1, 0, 4]),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        pixels = tf.io.decode_and_crop_jpeg(encoded, window, channels=3, **settings)
        pixels = tf.image.resize(tf.image.random_flip_left_right(pixels), (SIDE, SIDE))
        return tf.cast(pixels, tf.uint8), label

    mapped = labelled(folder).map(made, num_parallel_calls=AUTOTUNE, deterministic=False)
    return mapped.batch(BATCH, drop_remainder=True).prefetch(AUTOTUNE)


def by_pil(folder: Path) -> Any:
    """The way of many PyTorch loaders, in threads of tf.data."""
    crops = CropSampler(SIDE, SIDE)

    def read(file: bytes) -> np.ndarray:
        text = Path(file.decode()).read_bytes()
        with Image.open(streams.BytesIO(text)) as picture:
            width, height = picture.size
            box = crops.box(height, width, text)
            picture.draft("RGB", (width * SIDE // box.width, height * SIDE // box.height))
            scale = picture.size[0] / width
            corners = (box.left, box.top, box.left + box.width, box.top + box.height)
            part = tuple(scale * corner for corner in corners)
            view = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=part)
        pixels = np.asarray(view)
        return pixels[:, ::-1] if box.flip else pixels

    def made(file: Any, label: Any) -> Any:
        pixels = tf.numpy_function(read, [file], tf.uint8)
        return tf.ensure_shape(pixels, (SIDE, SIDE, 3)), label

    mapped = labelled(folder).map(made, num_parallel_calls=AUTOTUNE, deterministic=False)
    return mapped.batch(BATCH, drop_remainder=True).prefetch(AUTOTUNE)


def count(batches: Any) -> int:
    """Read all batches and return the pictures."""
    return sum(int(label.shape[0]) for _, label in batches)


def decode_all(folder: Path) -> int:
    """Decode every picture as a whole, at the decoder's fastest."""
    files = sorted(folder.glob("*/*.jpg"))
    memory = np.empty(853 * 1280 * 3, np.uint8)
    for file in files:
        simplejpeg.decode_jpeg(
            file.read_bytes(), "RGB", fastdct=True, fastupsample=True, buffer=memory
        )
    return len(files)


def mean_pixel(batches: Any) -> float:
    """Return the mean of all pixels."""
    means = [
        float(np.mean(image["image"] if isinstance(image, dict) else image)) for image, _ in batches
    ]
    return float(np.mean(means))


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    summary: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, size in SIZES.items():
        pictures = options.pictures if name == "usual" else options.pictures // 4
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / "pictures"
            write(folder, size, pictures)
            bytes_ = sum(path.stat().st_size for path in folder.glob("*/*.jpg"))
            fast = {"dct_method": "INTEGER_FAST", "fancy_upscaling": False}
            baselines = {
                "tensorflow": by_tensorflow(folder),
                "tensorflow_fast": by_tensorflow(folder, **fast),
                "pil": by_pil(folder),
            }
            ours = io.images(folder, BATCH)
            means = {"ours": mean_pixel(ours)}
            means |= {reader: mean_pixel(data) for reader, data in baselines.items()}
            assert max(means.values()) - min(means.values()) < 25, means
            say(f"{name}: {pictures} pictures, {bytes_ / pictures / 1e3:.0f} kB each, {means}")
            readers: dict[str, Any] = {"ours": lambda data=ours: count(data)}
            for reader, data in baselines.items():
                readers[reader] = lambda data=data: count(data)
            readers["ours_again"] = readers["ours"]
            readers["decode_alone"] = lambda path=folder: decode_all(path)
            contest = Contest(readers)
            contest.run(options.rounds)
        best = min(baselines, key=lambda reader: float(np.median(contest.cpu[reader])))
        ratios = {reader: contest.ratio("ours", reader) for reader in readers if reader != "ours"}
        mark = "" if name == "usual" else f"{name}_"
        summary |= {
            f"{mark}pictures_per_cpu_s": round(1e6 * contest.rate("ours")["median"]),
            f"{mark}vs_best": round(ratios[best]["median"], 3),
            f"{mark}best": best,
            f"{mark}vs_pil": round(ratios["pil"]["median"], 3),
            f"{mark}decoding_share": round(ratios["decode_alone"]["median"], 3),
            f"{mark}same_twice": round(ratios["ours_again"]["median"], 3),
        }
        details[name] = {
            "pixels": size[:2],
            "bytes_a_picture": bytes_ / pictures,
            "mean_pixel": means,
            "ratios": ratios,
            "readers": contest.details(),
        }
    finish("input_images", summary, details)


if __name__ == "__main__":
    main()
