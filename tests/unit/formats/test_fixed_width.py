from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from expected_errors import raises_code

from eai_notebook import io

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = {"x": (">f4", (3,)), "n": ("<i8", ()), "label": ("u1", ())}


def records(count: int) -> np.ndarray:
    made = np.zeros(count, np.dtype([(name, *one) for name, one in FIELDS.items()]))
    made["x"] = np.random.default_rng(0).random((count, 3))
    made["n"] = np.arange(count)
    made["label"] = np.arange(count) % 2
    return made


@pytest.mark.parametrize("shuffle", [False, True])
def test_records_of_any_numbers_with_and_without_a_header(tmp_path: Path, shuffle: bool) -> None:
    made = records(500)
    (tmp_path / "a.bin").write_bytes(b"head" + made[:300].tobytes())
    (tmp_path / "b.bin").write_bytes(b"head" + made[300:].tobytes())
    np.save(tmp_path / "c.npy", made)
    raw = io.binary(tmp_path / "*.bin", 90, fields=FIELDS, header=4, shuffle=shuffle, shard=False)
    own = io.binary(tmp_path / "c.npy", 90, shuffle=shuffle, shard=False)
    for data in (raw, own):
        batches = list(data)
        n = np.concatenate([x["n"] for x, _ in batches])
        assert sorted(n.tolist()) == list(range(500))
        assert shuffle != (n.tolist() == list(range(500)))
        np.testing.assert_array_equal(np.concatenate([x["x"] for x, _ in batches]), made["x"][n])
        label = np.concatenate([y for _, y in batches])
        np.testing.assert_array_equal(label[:, 0], made["label"][n])


def test_what_holds_no_whole_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(records(10).tobytes()[:-1])
    with raises_code("file-size-wrong", path, "209 bytes", "21 bytes"):
        io.binary(path, 1, fields=FIELDS)
    with raises_code("npy-invalid", path, "`fields`"):
        io.binary(path, 1)
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with raises_code("npy-invalid", "a.npy", "(3, 4)"):
        io.binary(tmp_path / "a.npy", 1)
    np.save(tmp_path / "a.npy", records(10))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with raises_code("file-size-wrong", "a.npy"):
        io.binary(tmp_path / "a.npy", 1)
    with raises_code("record-type-invalid", "nonsense"):
        io.binary(path, 1, fields={"x": ("nonsense", ())})
