"""HDFS: a real name node and data node, of Hadoop's own cluster for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import click_log_files
import numpy as np
import pytest
from expected_errors import raises_code
from paths import REPOSITORY, TESTS

from eai_notebook.io.pipeline.byte_ranges import cut_all, read, spans_of
from eai_notebook.io.sources import retry
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
native: Any = pytest.importorskip("hdfs_native", reason="hdfs-native is not installed")

HERE = TESTS / "minicluster"
JARS = REPOSITORY / "build" / "minicluster"
COUNTS = [60, 3, 17]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a cluster with some logs; it ends when its standard input does."""
    if not shutil.which("java") or not (shutil.which("mvn") or list(JARS.glob("*.jar"))):
        pytest.skip("no HDFS: it needs Java and Maven")
    if not list(JARS.glob("hadoop-client-minicluster-*.jar")):
        fetch = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*fetch, f"-DoutputDirectory={JARS}"], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("no HDFS: Maven cannot get Hadoop's cluster for tests")
    command = ["java", "-Xmx512m", "-cp", f"{JARS}/*", str(HERE / "Mini.java")]
    with subprocess.Popen(
        [*command, str(tmp_path_factory.mktemp("hdfs"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = next((line.split()[1] for line in server.stdout if line.startswith("port ")), None)
        assert port, "the cluster did not start"
        client = native.Client(f"hdfs://127.0.0.1:{port}")
        client.mkdirs("/logs/train", 0o755, create_parent=True)
        for number, count in enumerate(COUNTS):
            rows = [click_log_files.row(1000 * number + place) for place in range(count)]
            with client.create(f"/logs/train/{number}.tsv") as stream:
                stream.write("".join(f"{row}\n" for row in rows).encode())
        yield f"hdfs://127.0.0.1:{port}"
        server.stdin.close()
        server.wait(60)


def test_files_are_found_and_every_row_is_read_once(cluster: str) -> None:
    urls = [f"{cluster}/logs/train/{number}.tsv" for number in range(3)]
    assert [file.url for file in find_files(f"{cluster}/logs/train")] == urls
    files = find_files(f"{cluster}/logs/train/*.tsv")
    assert [file.url for file in files] == urls
    seen: Counter[bytes] = Counter()
    for rank in range(3):
        for piece in cut_all(spans_of(files, rank, 3), 1000):
            text = bytes(read(piece.file, piece.begin, piece.end))[: piece.end - piece.begin]
            assert len(text.splitlines()) == piece.lines
            seen.update(text.splitlines())
    assert seen == Counter(
        click_log_files.row(1000 * number + place).encode()
        for number, count in enumerate(COUNTS)
        for place in range(count)
    )
    with files[1].open() as stream:
        stream.seek(2)
        assert stream.read(3).decode() == click_log_files.row(1000)[2:5]


def test_what_is_not_there_is_an_error_at_once(cluster: str) -> None:
    with raises_code("storage-failed", "gone.tsv"):
        find_files(f"{cluster}/logs/gone.tsv")
    with raises_code("no-files", "*.none"):
        find_files(f"{cluster}/logs/*.none")


def test_a_file_that_was_removed_is_an_error_at_once(
    cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = native.Client(cluster)
    with client.create("/logs/short.tsv") as stream:
        stream.write(b"abc\n")
    file = find_files(f"{cluster}/logs/short.tsv")[0]
    client.delete("/logs/short.tsv")
    with raises_code("storage-failed", "short.tsv"):
        file.read_into(np.empty(4, np.uint8))
    assert not capsys.readouterr().out


def test_a_name_node_that_is_gone_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)
    with raises_code("storage-failed", "5 tries"):
        find_files("hdfs://127.0.0.1:9/logs/a.tsv")
