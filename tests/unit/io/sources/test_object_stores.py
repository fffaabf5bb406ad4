"""S3, OSS by the same interface, and Google's storage, from real servers on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click_log_files
import numpy as np
import pytest
from expected_errors import raises_code

from eai_notebook.io.pipeline.byte_ranges import cut_all, read, spans_of
from eai_notebook.io.sources import storage
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyarrow.fs import FileSystem

ROWS = {number: 1000 * number + np.arange(count) for number, count in enumerate([60, 0, 3, 17])}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server of S3's interface with a bucket named logs."""
    pytest.importorskip("moto", reason="no S3 server: the package moto is not installed")
    from pyarrow.fs import S3FileSystem

    log = tmp_path_factory.mktemp("s3") / "log"
    with _serving(log, "moto.server", "-p") as place:
        client = S3FileSystem(
            access_key="some",
            secret_key="one",  # noqa: S106 - the server takes any
            endpoint_override=place,
            scheme="http",
            allow_bucket_creation=True,
        )
        client.create_dir("logs")
        _fill(client)
        yield place


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server of Google's interface with a bucket named logs."""
    reason = "no server for gs://: the package gcp-storage-emulator is not installed"
    pytest.importorskip("gcp_storage_emulator", reason=reason)
    from pyarrow.fs import GcsFileSystem

    log = tmp_path_factory.mktemp("gs") / "log"
    options = ("start", "--in-memory", "--host", "127.0.0.1", "--default-bucket", "logs", "--port")
    with _serving(log, "gcp_storage_emulator", *options) as place:
        _fill(GcsFileSystem(anonymous=True, endpoint_override=place, scheme="http"))
        yield place


@contextmanager
def _serving(log: Path, module: str, *options: str) -> Iterator[str]:
    """Run a server whose last option is its port; return where it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", module, *options, place.rpartition(":")[2]]
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            _wait_for(place, server, log)
            yield place
        finally:
            server.terminate()


def _fill(client: FileSystem) -> None:
    for number, places in ROWS.items():
        rows = "".join(f"{click_log_files.row(place)}\n" for place in places.tolist())
        with client.open_output_stream(f"logs/train/{number}.tsv") as stream:
            stream.write(rows.encode())
    with client.open_output_stream("logs/train/notes.md") as stream:
        stream.write(b"not a log")


def _wait_for(place: str, server: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = place.partition(":")
    until = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:  # noqa: PERF203 - waiting anyway
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the server did not start: {log.read_text()}")


@pytest.fixture(params=["s3", "oss", "gs"])
def logs(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """Return the URL of the folder with logs."""
    server = {"oss": "s3"}.get(request.param, request.param)
    endpoint = f"http://{request.getfixturevalue(server)}"
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for scheme in ("AWS", "OSS"):
        monkeypatch.setenv(f"{scheme}_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "one")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "one")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ENDPOINT_URL", "OSS_ENDPOINT", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(name, endpoint)
    storage._remote.cache_clear()
    yield f"{request.param}://logs/train"
    storage._remote.cache_clear()


def test_files_of_a_bucket_are_found(logs: str) -> None:
    urls = [f"{logs}/{number}.tsv" for number in range(4)]
    assert [file.url for file in find_files(logs)] == urls
    assert [file.url for file in find_files(f"{logs}/[02]*.tsv")] == urls[::2]
    assert [file.size for file in find_files(urls[1:2])] == [0]
    with find_files(urls[3])[0].open() as stream:
        stream.seek(2)
        assert stream.read(5).decode() == click_log_files.row(3000)[2:7]


def test_ranks_read_every_row_of_a_bucket_once(logs: str) -> None:
    seen: Counter[bytes] = Counter()
    for rank in range(3):
        for piece in cut_all(spans_of(find_files(logs), rank, 3), 1000):
            lines = bytes(read(piece.file, piece.begin, piece.end))[: piece.end - piece.begin]
            assert len(lines.splitlines()) == piece.lines
            seen.update(lines.splitlines())
    assert seen == Counter(
        click_log_files.row(place).encode() for places in ROWS.values() for place in places.tolist()
    )


def test_what_is_not_in_a_bucket_is_an_error_at_once(logs: str) -> None:
    with raises_code("no-files", f"{logs}/none-*.tsv"):
        find_files(f"{logs}/none-*.tsv")
    with raises_code("storage-failed", "gone.tsv"):
        find_files(f"{logs}/gone.tsv")


def test_google_without_credentials_is_an_error_and_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    storage._remote.cache_clear()
    with raises_code("file-not-readable", "gs://logs/train/0.tsv", "credentials"):
        find_files("gs://logs/train/0.tsv")
