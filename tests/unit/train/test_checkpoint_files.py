"""Checkpoint files: whole or not there, and a damaged one costs only itself."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.train import checkpoint_files
from eai_notebook.train.checkpoint_files import Snapshot

if TYPE_CHECKING:
    from pathlib import Path


def some(number: int) -> Snapshot:
    return Snapshot({"weights": [np.full(1000, number, "f4"), np.array(number)]}, {"n": number})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert checkpoint_files.newest(tmp_path / "none") is None
    checkpoint_files.write(tmp_path / "a" / "b", 4, some(4), keep=2)
    found = checkpoint_files.newest(tmp_path / "a" / "b")
    assert found is not None
    assert found.about == {"n": 4}
    np.testing.assert_array_equal(found.arrays["weights"][0], np.full(1000, 4, "f4"))
    assert found.arrays["weights"][1].shape == ()


def test_only_the_last_ones_stay(tmp_path: Path) -> None:
    for number in (9, 10, 11, 11):
        checkpoint_files.write(tmp_path, number, some(number), keep=2)
    assert names(tmp_path) == ["checkpoint-0000000010.npz", "checkpoint-0000000011.npz"]


def test_a_head_of_somebody_elses_and_files_of_the_users_are_passed_over(tmp_path: Path) -> None:
    checkpoint_files.write(tmp_path, 1, some(1), keep=3)
    for number, head in enumerate(("[" * 100_000, "7", '{"format": 1, "counts": 7}'), 2):
        path = tmp_path / f"checkpoint-{number:010d}.npz"
        np.savez(path, head=np.frombuffer(head.encode(), np.uint8))
    (tmp_path / "checkpoint-best.npz").write_bytes(b"the user's")
    os.mkfifo(tmp_path / "checkpoint-0000000009.npz")  # opening it would wait without end
    found = checkpoint_files.newest(tmp_path)
    assert found is not None
    assert found.about == {"n": 1}
    checkpoint_files.write(tmp_path, 10, some(10), keep=1)
    assert checkpoint_files.numbers(tmp_path) == [10]
    assert (tmp_path / "checkpoint-best.npz").exists()


def test_a_kill_before_the_renaming_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint_files.write(tmp_path, 1, some(1), keep=3)
    code = f"""if True:
        import os, pathlib, signal
        import numpy as np
        from eai_notebook.train import checkpoint_files
        def killed(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        pathlib.Path.replace = killed
        whole = checkpoint_files.Snapshot({{"weights": [np.ones(9)]}})
        checkpoint_files.write(pathlib.Path({str(tmp_path)!r}), 2, whole, keep=3)
    """
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    assert names(tmp_path) == [".checkpoint-0000000002.part", "checkpoint-0000000001.npz"]
    found = checkpoint_files.newest(tmp_path)
    assert found is not None
    assert found.about == {"n": 1}
    checkpoint_files.write(tmp_path, 2, some(2), keep=3)
    assert names(tmp_path) == ["checkpoint-0000000001.npz", "checkpoint-0000000002.npz"]


@pytest.mark.parametrize("damage", ["cut", "one bit", "empty", "other format"])
def test_a_damaged_one_is_passed_over(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint_files.write(tmp_path, 1, some(1), keep=3)
    path = checkpoint_files.write(tmp_path, 2, some(2), keep=3)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        os.truncate(path, len(content) // 2)
    elif damage == "one bit":
        content[content.index(np.full(100, 2, "f4").tobytes()) + 50] ^= 4
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path, head=np.frombuffer(b'{"format": 99}', np.uint8))
    found = checkpoint_files.newest(tmp_path)
    assert found is not None
    assert found.about == {"n": 1}
    said = capsys.readouterr().err
    assert said.startswith(f"{path} is damaged (")
    assert said.count("\n") == 1


def test_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    checkpoint_files.write(tmp_path, 1, some(1), keep=3).write_bytes(b"no archive")
    with pytest.raises(EaiError, match=r"none of the 1 checkpoints in .*: move them away"):
        checkpoint_files.newest(tmp_path)


@pytest.mark.parametrize(
    "build",
    [
        {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
        {
            "input_shape": {
                "module": "subprocess",
                "class_name": "Popen",
                "config": {"args": ["id"]},
            }
        },
        {"shapes_dict": [1, {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}]},
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "O"}},
    ],
)
def test_a_checkpoint_names_no_object_to_make(build: object, tmp_path: Path) -> None:
    with pytest.raises(EaiError) as caught:
        checkpoint_files.check_shapes(tmp_path, build)
    assert caught.value.code == "checkpoint-shapes"


@pytest.mark.parametrize(
    "build", [None, {"input_shape": [None, 3]}, {"shapes_dict": {"a": [8, 2], "b": [[None], []]}}]
)
def test_shapes_are_what_a_model_is_built_with(build: object, tmp_path: Path) -> None:
    checkpoint_files.check_shapes(tmp_path, build)
