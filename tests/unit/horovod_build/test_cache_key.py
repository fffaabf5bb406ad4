"""The key of a Horovod wheel: all versions it depends on."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import cache_key
from eai_notebook.horovod_build.mpi_finder import Mpi

OURS = Mpi(Path(sys.prefix).resolve(), "Open MPI", "5.0.11")


def test_every_ingredient_changes_the_name() -> None:
    key = cache_key.key_for(OURS, gpu=False)
    others = [
        replace(key, tensorflow="tensorflow-cpu-0.0"),
        replace(key, python="cpython-399"),
        replace(key, mpi="mpich-4"),
        replace(key, platform="linux-riscv64"),
        cache_key.key_for(OURS, gpu=True),
    ]
    names = {key.name, *(other.name for other in others)}
    assert len(names) == 6
    assert all("/" not in name and " " not in name for name in names)


def test_mpis_outside_the_environment_are_distinguished_by_place() -> None:
    one = cache_key.key_for(Mpi(Path("/opt/one"), "Open MPI", "5.0.11"), gpu=False)
    two = cache_key.key_for(Mpi(Path("/opt/two"), "Open MPI", "5.0.11"), gpu=False)
    assert len({one.mpi, two.mpi, cache_key.key_for(OURS, gpu=False).mpi}) == 3


def test_a_new_recipe_does_not_use_old_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache_key.key_for(OURS, gpu=False)
    before = key.name
    monkeypatch.setattr(cache_key, "RECIPE", cache_key.RECIPE + 1)
    assert key.name != before


def test_wheel_is_found_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = cache_key.key_for(OURS, gpu=False)
    assert key.cached_wheel() is None
    key.folder.mkdir(parents=True)
    built = tmp_path / "horovod-0.28.1-any.whl"
    built.write_bytes(b"a wheel")
    wheel = key.keep(built)
    assert key.cached_wheel() == wheel
    assert key.folder in wheel.parents


def test_a_cached_wheel_that_is_not_as_it_was_built_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = cache_key.key_for(OURS, gpu=False)
    key.folder.mkdir(parents=True)
    (key.folder / "horovod-0.28.0-any.whl").write_bytes(b"put there by somebody")
    assert key.cached_wheel() is None
    built = tmp_path / "horovod-0.28.1-any.whl"
    built.write_bytes(b"a wheel")
    wheel = key.keep(built)
    wheel.write_bytes(b"a whee")
    assert key.cached_wheel() is None


def test_the_oldest_wheels_go_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (cache_key.cache() / "proved").mkdir(parents=True)
    built = tmp_path / "horovod-0.28.1-cp311.whl"
    built.write_bytes(b"wheel")
    ours = cache_key.key_for(OURS, gpu=False)
    keys = [replace(ours, tensorflow=f"tensorflow-2.{number}") for number in range(10)]
    for age, key in enumerate(reversed(keys)):
        key.folder.mkdir(parents=True)
        os.utime(key.folder, (1000 - age, 1000 - age))
    kept = keys[0].keep(built)  # the oldest is built anew, and is the newest
    assert kept.exists()
    left = {key.tensorflow for key in keys if key.folder.exists()}
    assert left == {keys[0].tensorflow, *(key.tensorflow for key in keys[3:])}
    assert (cache_key.cache() / "proved").exists()


def test_no_tensorflow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_key, "installed", lambda _name: None)
    monkeypatch.setattr("importlib.metadata.packages_distributions", dict)
    with pytest.raises(EaiError, match="pip install tensorflow-cpu"):
        cache_key.installed_tensorflow()
