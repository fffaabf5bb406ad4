"""A fork server that has imported TensorFlow, Horovod and ipyparallel, and the client that runs a script in it.

Importing them takes five seconds of a core in each process, and most rank programs run for less.
A script runs in a fork of the server with the client's arguments, environment, folder, standard
streams and exit status, so ``mpirun`` cannot distinguish the client from the script itself. Nothing that
was imported has started a thread or opened a device: the fork is as good as a new process.

A client on a test host (`hosts.cluster`) has the script run on that host: in its network, with its name. The
script ends with its client; with ``EAI_AWAY`` it outlives it, as a rank on another machine may.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_READ_AT_IMPORT = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS")
_HOST = ("net", "uts", "mnt")
"""The namespaces that a test host has of its own; the last one changes what files are seen."""


class PreloadedPython:
    """The server's process, as its user sees it: start it once, run many scripts in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.address = folder / "python.sock"
        self._log = folder / "python.log"
        alike = {
            **environment,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OPENBLAS_NUM_THREADS": "1",  # a thread pool does not survive a fork
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "serve", str(self.address)],
                stdin=subprocess.PIPE,  # its end shows the server that nobody needs it any more
                stdout=log,
                stderr=log,
                env=alike,
            )

    def command(self, script: Path) -> list[str]:
        """Return the command that runs `script` in a fork of the server."""
        while not self.address.exists():
            if self._process.poll() is not None:
                raise RuntimeError(f"no preloaded Python: {self._log.read_text()[-3000:]}")
            time.sleep(0.05)
        return [sys.executable, "-I", "-S", __file__, "run", str(self.address), str(script)]

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# ------------------------------------------------------------------------------- the client


def run(address: str, words: list[str]) -> int:
    """Run a script with its arguments in a fork of the server; return its exit status."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        request = {"argv": words, "env": dict(os.environ), "cwd": str(Path.cwd())}
        host = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in _HOST]
        socket.send_fds(line, [b"r"], [0, 1, 2, *host])
        with line.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            started = stream.readline()
            if not started:
                return 1
            outlives = "EAI_AWAY" in os.environ  # then it does not hear of its client's end either
            for number in () if outlives else (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, lambda got, _frame: os.kill(int(started), got))
            answer = stream.readline()
    status = int(answer or 1)
    if os.WIFSIGNALED(status):  # end as the script did, which mpirun reports
        ended_by = os.WTERMSIG(status)
        if ended_by != signal.SIGKILL:
            signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    return os.waitstatus_to_exitcode(status)


# ------------------------------------------------------------------------------- the server


def _preload() -> None:
    from eai_notebook.engine.tensorflow_import import import_tensorflow

    import_tensorflow()
    # Nothing more of eai_notebook: it looks for other packages' parts, which the script may add.
    import ipyparallel.engine.app  # noqa: F401  # of a group's ranks


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a client's request, and its three standard streams and its host's namespaces."""
    _, files, _, _ = socket.recv_fds(line, 1, 3 + len(_HOST))
    with line.makefile("r", encoding="utf-8") as stream:
        return json.loads(stream.readline()), files


def _enter(host: list[int]) -> None:
    """Go to the host with these namespaces, if it is another one."""
    for name, file in zip(_HOST, host, strict=True):
        is_other = os.fstat(file).st_ino != Path(f"/proc/self/ns/{name}").stat().st_ino
        if is_other and ctypes.CDLL(None, use_errno=True).setns(file, 0):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        os.close(file)


def _become(request: dict[str, Any], files: list[int]) -> list[str]:
    """Make this process what a new one would be; return the script and its arguments."""
    os.setsid()
    streams, host = files[:3], files[3:]
    _enter(host)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    words = list(request["argv"])
    more = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(words[0]).parent), *(p for p in more if p and p not in sys.path)]
    return words


def _wait_for(line: socket.socket, child: int, *, outlives: bool) -> None:
    """Send the client the status of its script; end the script when the client goes first.

    If it `outlives` its client, leave it to itself.
    """
    with contextlib.suppress(OSError):
        line.sendall(f"{child}\n".encode())
    ends = select.poll()
    ended = os.pidfd_open(child)
    ends.register(ended, select.POLLIN)
    ends.register(line, select.POLLIN)
    if ended not in dict(ends.poll()):
        if outlives:
            return
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        line.sendall(f"{status}\n".encode())


def _differing(request: dict[str, Any]) -> list[str]:
    """Return the variables that are read at import and that the client has otherwise."""
    return [name for name in _READ_AT_IMPORT if request["env"].get(name) != os.environ.get(name)]


def serve(address: str) -> list[str]:
    """Fork for each client until standard input ends; in the fork, return what to run."""
    _preload()
    gc.freeze()  # collecting what was imported would copy its pages in each fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    served = socket.socket(socket.AF_UNIX)
    served.bind(address + ".new")
    served.listen(64)
    Path(address + ".new").rename(address)
    while True:
        ready, _, _ = select.select([sys.stdin, served], [], [])
        if sys.stdin in ready:
            raise SystemExit
        line, _ = served.accept()
        if os.fork():
            line.close()
            continue
        served.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, files = _receive(line)
        if differing := _differing(request):
            os.write(files[2], f"no longer to be set: {differing}\n".encode())
            os._exit(1)
        if child := os.fork():
            for file in files:
                os.close(file)
            _wait_for(line, child, outlives="EAI_AWAY" in request["env"])
            os._exit(0)
        line.close()
        return _become(request, files)


if __name__ == "__main__":
    what, where, *arguments = sys.argv[1:]
    if what == "run":
        sys.exit(run(where, arguments))
    sys.argv = serve(where)
    runpy.run_path(sys.argv[0], run_name="__main__")
