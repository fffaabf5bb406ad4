"""A storage of known speed in a separate process: S3's reads over plain HTTP.

Each request waits a fixed time, each stream has a rate, and so has the link that all share.

    python benchmarks/_storage.py FOLDER COPIES LATENCY_S STREAM_BYTES_S LINK_BYTES_S ADDRESS

serves the files of a folder as ``/logs/COPY/NAME`` and prints its port.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = 1 << 17


class Link:
    """Lets bytes pass at a rate, one piece after another."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._free = 0.0
        self._lock = threading.Lock()

    def wait(self, count: int) -> None:
        """Wait until so many bytes have passed."""
        with self._lock:
            self._free = max(self._free, time.perf_counter()) + count / self._bytes_s
            until = self._free
        time.sleep(max(until - time.perf_counter(), 0.0))


class Server(ThreadingHTTPServer):
    """Serves files from memory."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, folder: Path, copies: int, latency: float, rate: float, link: float, address: str
    ) -> None:
        super().__init__((address, 0), Handler)
        contents = {path.name: path.read_bytes() for path in sorted(folder.glob("train-*.tsv"))}
        self.files = {
            f"/logs/{copy}/{name}": content
            for copy in range(copies)
            for name, content in contents.items()
        }
        self.latency = latency
        self.stream_bytes_s = rate
        self.link = Link(link)


class Handler(BaseHTTPRequestHandler):
    """Answers what S3's clients ask to read an object."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        """Return a file's size."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send a range of a file."""
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        time.sleep(self.server.latency)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin, end, status = 0, len(content), 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found:
            begin, status = int(found[1]), 206
            end = min(int(found[2]) + 1, end) if found[2] else end
        self.send_response(status)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
        if found:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.end_headers()
        if body:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._send(memoryview(content)[begin:end])

    def _send(self, part: memoryview) -> None:
        own = Link(self.server.stream_bytes_s)
        for begin in range(0, len(part), _PIECE):
            piece = part[begin : begin + _PIECE]
            self.server.link.wait(len(piece))
            own.wait(len(piece))
            self.wfile.write(piece)


@contextlib.contextmanager
def serving(
    folder: Path,
    copies: int,
    latency: float,
    stream_bytes_s: float,
    link_bytes_s: float,
    address: str = "127.0.0.1",
) -> Iterator[str]:
    """Yield the address of a server of a folder's files."""
    sizes = [str(value) for value in (copies, latency, stream_bytes_s, link_bytes_s, address)]
    with subprocess.Popen(
        [sys.executable, __file__, str(folder), *sizes], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield f"http://{address}:{int(server.stdout.readline())}"
        finally:
            server.terminate()


if __name__ == "__main__":
    wait_s, stream, shared = map(float, sys.argv[3:6])
    made = Server(Path(sys.argv[1]), int(sys.argv[2]), wait_s, stream, shared, sys.argv[6])
    print(made.server_port, flush=True)
    made.serve_forever()
