"""S3, and OSS by the same interface, from a real server on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import clicklog
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.io.ranges import cut_all, read, spans_of
from eai_notebook.io.sources import storage
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("moto", reason="no S3 server: the package moto is not installed")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start a server with a bucket named logs."""
    from pyarrow.fs import S3FileSystem

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "moto.server", "-p", place.rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(place, server)
            client = S3FileSystem(
                access_key="some",
                secret_key="one",  # noqa: S106 - the server takes any
                endpoint_override=place,
                scheme="http",
                allow_bucket_creation=True,
            )
            client.create_dir("logs")
            for number, count in enumerate([60, 0, 3, 17]):
                rows = [clicklog.row(1000 * number + place) for place in range(count)]
                with client.open_output_stream(f"logs/train/{number}.tsv") as stream:
                    stream.write("".join(f"{row}\n" for row in rows).encode())
            with client.open_output_stream("logs/train/notes.md") as stream:
                stream.write(b"not a log")
            yield place
        finally:
            server.terminate()


def _wait_for(place: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = place.partition(":")
    until = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:  # noqa: PERF203 - waiting anyway
            time.sleep(0.1)
        else:
            return
    pytest.fail("the S3 server did not start")


@pytest.fixture(params=["s3", "oss"])
def logs(
    request: pytest.FixtureRequest, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Return the URL of the folder with logs."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for scheme in ("AWS", "OSS"):
        monkeypatch.setenv(f"{scheme}_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "one")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "one")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    monkeypatch.setenv("OSS_ENDPOINT", f"http://{endpoint}")
    storage._remote.cache_clear()
    return f"{request.param}://logs/train"


def test_files_of_a_bucket_are_found(logs: str) -> None:
    urls = [f"{logs}/{number}.tsv" for number in range(4)]
    assert [file.url for file in find_files(logs)] == urls
    assert [file.url for file in find_files(f"{logs}/[02]*.tsv")] == urls[::2]
    assert [file.size for file in find_files(urls[1:2])] == [0]
    with find_files(urls[3])[0].open() as stream:
        stream.seek(2)
        assert stream.read(5).decode() == clicklog.row(3000)[2:7]


def test_ranks_read_every_row_of_a_bucket_once(logs: str) -> None:
    seen: Counter[bytes] = Counter()
    for rank in range(3):
        for piece in cut_all(spans_of(find_files(logs), rank, 3), 1000):
            lines = bytes(read(piece.file, piece.begin, piece.end))[: piece.end - piece.begin]
            assert len(lines.splitlines()) == piece.lines
            seen.update(lines.splitlines())
    counts = enumerate([60, 0, 3, 17])
    assert seen == Counter(
        clicklog.row(1000 * number + place).encode()
        for number, count in counts
        for place in range(count)
    )


def test_what_is_not_in_a_bucket_is_told_at_once(logs: str) -> None:
    with pytest.raises(EaiError, match="no file matches"):
        find_files(f"{logs}/none-*.tsv")
    with pytest.raises(EaiError, match=r"gone\.tsv cannot be read"):
        find_files(f"{logs}/gone.tsv")
