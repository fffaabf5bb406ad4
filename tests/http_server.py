"""A web server on loopback that serves ranges, fails on demand, and takes its time."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Serves `files`; notes `requests`; gives `answers` first, one a request."""

    def __init__(self, *, latency_s: float = 0.0, bytes_s: float = 0.0) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[int] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.latency_s = latency_s
        self.bytes_s = bytes_s
        self.gone = False
        own = self

        class Handler(_Handler):
            server_of_files = own

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        """Return the address of a file."""
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def close(self) -> None:
        """Be gone, for connections that are open too."""
        self.gone = True
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_files: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        own = self.server_of_files
        if own.gone:
            self.close_connection = True
            return
        wanted = self.headers.get("Range")
        own.requests.append((self.command, self.path, wanted))
        time.sleep(own.latency_s)
        if own.answers and body:
            self._head(own.answers.pop(0), 0)
            return
        content = own.files.get(self.path)
        if content is None:
            self._head(404, 0)
            return
        begin, end = 0, len(content)
        if wanted and (found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)):
            begin, end = int(found[1]), int(found[2]) + 1 if found[2] else end
            if begin >= len(content):
                self._head(416, 0)
                return
        part = content[begin:end]
        self._head(
            206 if wanted else 200,
            len(part),
            f"bytes {begin}-{begin + len(part) - 1}/{len(content)}",
        )
        if body:
            self._send(part)

    def _head(self, status: int, length: int, content: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content:
            self.send_header("Content-Range", content)
        self.end_headers()

    def _send(self, part: bytes) -> None:
        rate = self.server_of_files.bytes_s
        if not rate:
            self.wfile.write(part)
            return
        step = 1 << 16
        began = time.perf_counter()
        for begin in range(0, len(part), step):
            self.wfile.write(part[begin : begin + step])
            late = (begin + step) / rate - (time.perf_counter() - began)
            if late > 0:
                time.sleep(late)
