from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from click_log_files import row
from expected_errors import raises_code

from eai_notebook import io
from eai_notebook.io import CRITEO

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (*CRITEO.integers, *CRITEO.categorical)


def rows() -> list[str]:
    """Return rows with missing, negative, small and very large integers."""
    rng = np.random.default_rng(0)
    made = [row(number) for number in range(1000)]
    for _ in range(4000):
        sizes = 10.0 ** rng.uniform(0, 17, 13)
        integers = [
            str(int(size) * sign) for size, sign in zip(sizes, rng.choice([1, -1], 13), strict=True)
        ]
        names = [f"{word:08X}" for word in rng.integers(0, 1 << 32, 26)]
        made.append("\t".join(["1", *integers, *names]))
    return made


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serving") / "log.tsv"
    path.write_text("\n".join(rows()) + "\n")
    return path


def columns(path: Path) -> dict[str, list[str]]:
    fields = [line.split("\t")[1:] for line in path.read_text().splitlines()]
    return dict(zip(NAMES, map(list, zip(*fields, strict=True)), strict=True))


def test_operations_make_what_the_reader_makes_also_in_an_exported_model(
    text: Path, tmp_path: Path
) -> None:
    (wanted, _), *_ = io.criteo(text, 5000, shuffle=False)
    module = tf.Module()
    signature = {name: tf.TensorSpec((None,), tf.string) for name in NAMES}
    module.serve = tf.function(io.features(CRITEO), input_signature=[signature])
    tf.saved_model.save(module, str(tmp_path / "model"))
    served = tf.saved_model.load(str(tmp_path / "model")).serve
    given = {name: tf.constant(values) for name, values in columns(text).items()}
    for made in (io.features(CRITEO)(given), served(given)):
        np.testing.assert_array_equal(made["numbers"], wanted["numbers"], strict=True)
        np.testing.assert_array_equal(made["ids"], wanted["ids"], strict=True)


def test_numbers_are_taken_as_well_as_text(text: Path) -> None:
    (wanted, _), *_ = io.criteo(text, 5000, shuffle=False)
    given: dict[str, tf.Tensor] = {}
    for name, values in columns(text).items():
        numeric = [int(one or "-1", 16 if one else 10) for one in values]
        categorical = name in CRITEO.categorical
        given[name] = tf.constant(numeric, tf.int64) if categorical else tf.constant(values)
    made = io.features(CRITEO)(given)
    np.testing.assert_array_equal(made["ids"], wanted["ids"], strict=True)


@pytest.mark.parametrize("wrong", ["xyz", "0123456g", "012345678"])
def test_text_that_is_no_number_is_refused(wrong: str) -> None:
    given = {name: tf.constant([""]) for name in NAMES}
    with pytest.raises(tf.errors.InvalidArgumentError, match="eight hexadecimal"):
        io.features(CRITEO)(given | {"C1": tf.constant([wrong])})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"1\.5"):
        io.features(CRITEO)(given | {"I1": tf.constant(["1.5"])})
    del given["C7"]
    with raises_code("column-unknown", "'C7'"):
        io.features(CRITEO)(given)
