"""Files are found, read in ranges, and distinguished, in every storage."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from expected_errors import raises_code
from http_server import Server

from eai_notebook.io.sources import retry
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as server:
        yield server


def test_files_are_found_by_glob_folder_file_and_list(tmp_path: Path) -> None:
    names = ["b.tsv", "a.tsv", "notes.md", ".hidden.tsv"]
    for name in names:
        (tmp_path / name).write_text("x\n")
    both = [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    assert [file.url for file in find_files(tmp_path)] == both
    assert [file.url for file in find_files(str(tmp_path / "*.tsv"))] == both
    assert [file.url for file in find_files(tmp_path / "b.tsv")] == both[1:]
    assert [file.url for file in find_files(reversed(both))] == both[::-1]


def test_a_pipe_or_a_device_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tsv")
    for name in (tmp_path / "a.tsv", "/dev/zero"):
        with raises_code("not-a-file", str(name)):
            find_files(name)


@pytest.mark.parametrize(
    ("pattern", "code", "facts"),
    [
        ("none/train-*.tsv", "no-files", ["none/train-*.tsv"]),
        ("none", "no-files", ["none"]),
        ("empty", "no-files", ["empty", ".csv, .tsv, .txt"]),
        (["gone.tsv"], "no-files", ["gone.tsv"]),
        ([], "no-files", []),
        ("what://host/file", "scheme-unsupported", ["what://"]),
    ],
)
def test_what_cannot_be_found_is_named_with_a_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str | list[str],
    code: str,
    facts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with raises_code(code, *facts) as caught:
        find_files(pattern)
    assert caught.value.remedy


def test_a_manifest_names_files_seen_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.tsv").write_text("b\n")
    (tmp_path / "a.tsv").write_text("a\n")
    listed = tmp_path / "train.manifest"
    listed.write_text(f"# two days\n\ndeep/b.tsv\n{tmp_path}/a.tsv\n")
    found = [file.url for file in find_files(listed)]
    assert found == [str(tmp_path / "deep" / "b.tsv"), str(tmp_path / "a.tsv")]
    listed.write_text("# nothing\n")
    with raises_code("manifest-invalid", listed):
        find_files(listed)


def test_http_files_travel_and_read_ranges(server: Server) -> None:
    server.files["/data/a.tsv"] = bytes(range(200))
    file = pickle.loads(pickle.dumps(find_files(server.url("/data/a.tsv"))[0]))  # noqa: S301 - our own
    assert (file.size, file.suffix, file.is_local) == (200, ".tsv", False)
    memory = np.empty(50, np.uint8)
    file.read_into(memory, 100)
    assert bytes(memory) == bytes(range(100, 150))
    with file.open() as stream:
        stream.seek(190)
        assert stream.read() == bytes(range(190, 200))


def test_a_passing_fault_is_tried_again_in_sight(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    server.files["/a.tsv"] = b"abc"
    file = find_files(server.url("/a.tsv"))[0]
    server.answers += [503, 503]
    memory = np.empty(3, np.uint8)
    file.read_into(memory)
    assert bytes(memory) == b"abc"
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("try ")[2][:6] for line in lines] == ["2 of 5", "3 of 5"]
    assert all(line.startswith(f"{file.url} cannot be read") for line in lines)


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "storage-failed"), (403, "file-not-readable"), (410, "storage-failed")],
)
def test_a_lasting_fault_is_an_error_at_once(server: Server, status: int, code: str) -> None:
    server.files["/a.tsv"] = b"abc"
    file = find_files(server.url("/a.tsv"))[0]
    asked = len(server.requests)
    server.answers.append(status)
    with raises_code(code, file):
        file.read_into(np.empty(3, np.uint8))
    assert len(server.requests) == asked + 1


def test_a_server_that_has_gone_is_an_error_after_all_tries(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    server.files["/a.tsv"] = b"abc"
    file = find_files(server.url("/a.tsv"))[0]
    server.close()
    with raises_code("storage-failed", file, "5 tries"):
        file.read_into(np.empty(3, np.uint8))


def test_a_remote_file_that_shrinks_is_an_error(server: Server) -> None:
    server.files["/a.tsv"] = b"abcdef"
    file = find_files(server.url("/a.tsv"))[0]
    server.files["/a.tsv"] = b"abc"
    with raises_code("file-changed", file):
        file.read_into(np.empty(6, np.uint8))
