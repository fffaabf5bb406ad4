"""The program of a pod: says what the pod is, starts ``mpirun`` or one of its daemons, ends with its notebook.

It connects to the `pod_runner` beside the notebook. The agent of pod 0 runs ``mpirun``; the others start its
daemons when that asks for it. A pod whose notebook is silent for as long as its lease says ends itself, and
so does the job. Run as ``python -m eai_notebook.cluster.kube_jobs.pod_agent SETTINGS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import zmq

from eai_notebook.cluster import host_probe, listening
from eai_notebook.cluster.forwarding import forwarded
from eai_notebook.cluster.host_findings import PACKAGES
from eai_notebook.cluster.kube_jobs.pod_channel import ALIVE_S, Agent
from eai_notebook.cluster.mpi_environment import AWAY, find_mpirun, rank_environment
from eai_notebook.cluster.mpirun_arguments import daemon_arguments, network_arguments
from eai_notebook.errors import EaiError
from eai_notebook.python_command import module_command

CONNECT_S: Final = 20.0
"""How long the notebook's machine is tried."""
TICK_S: Final = 0.1
END_S: Final = 3.0
"""How long ``mpirun`` may take to end the ranks."""
TERMINATED: Final = 143
UNREACHABLE: Final = 9


class PodAgent:
    """Does what the runner asks, until the end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
        self._folder = Path(tempfile.gettempdir()) / "eai-notebook"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._line = Agent(settings["where"], self._index)
        self._requests: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._requests.bind(f"ipc://{self._folder / 'requests'}")
        self._mpirun: subprocess.Popen[bytes] | None = None
        self._daemons: dict[int, subprocess.Popen[bytes]] = {}
        self._waiting: dict[int, list[bytes]] = {}
        self._heard = self._said = time.monotonic()
        self._code: int | None = None
        self.terminated = False

    def run(self) -> int:
        """Return the exit code of the pod."""
        self._write_launch_program()
        self._line.send("hello", self._hello())
        while self._code is None:
            self._listen()
            self._watch()
        self._end_mpirun()
        self._line.close()
        return self._code

    def _hello(self) -> dict[str, Any]:
        where = self._settings["where"]
        try:
            mpirun = find_mpirun()
        except EaiError:
            mpirun = ""
        asked = {
            "packages": PACKAGES,
            "controller": [where["address"], where["port"]],
            "mpirun": mpirun,
            "folder": self._settings["folder"],
        }
        made = listening.library()
        return {
            "index": self._index,
            "pod": os.environ.get("HOSTNAME", socket.gethostname()),
            "library": None if made is None else str(made),
            "answer": host_probe.describe_host(asked),
        }

    def _write_launch_program(self) -> None:
        """Write what ``mpirun`` runs in place of ssh; its daemons look for it in their pods, too."""
        command = module_command(
            "eai_notebook.cluster.kube_jobs.daemon_launch", str(self._folder / "requests")
        )
        program = self._folder / "launch"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o700)

    # -- the loop -----------------------------------------------------------------------

    def _listen(self) -> None:
        poller = zmq.Poller()
        poller.register(self._line.socket, zmq.POLLIN)
        poller.register(self._requests, zmq.POLLIN)
        if self._mpirun is not None and self._mpirun.stdout is not None:
            poller.register(self._mpirun.stdout.fileno(), zmq.POLLIN)
        with contextlib.suppress(zmq.Again):
            poller.poll(int(TICK_S * 1000))
        while self._line.socket.poll(0):
            self._heard = time.monotonic()
            self._do(*self._line.receive())
        while self._requests.poll(0):
            self._pass_on(self._requests.recv_multipart())
        self._show_output()

    def _do(self, kind: str, content: Any) -> None:
        if kind == "start":
            self._start(content)
        elif kind == "launch":
            self._daemons[content["id"]] = subprocess.Popen(
                ["sh", "-c", content["command"]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(self._folder / f"daemon-{content['id']}").open("wb"),
                env={**os.environ, **content["environment"]},
                start_new_session=True,
            )
        elif kind == "launched":
            envelope = self._waiting.pop(content["id"], None)
            if envelope is not None:
                self._requests.send_multipart([*envelope, json.dumps(content).encode()])
        elif kind == "end":
            self._code = TERMINATED

    def _watch(self) -> None:
        now = time.monotonic()
        if now - self._said > ALIVE_S:
            self._said = now
            self._line.send("alive")
        for number, daemon in list(self._daemons.items()):
            if (code := daemon.poll()) is not None:
                del self._daemons[number]
                said = (self._folder / f"daemon-{number}").read_text(errors="replace")
                self._line.send("launched", {"id": number, "code": code, "text": said})
        if self._mpirun is not None and self._mpirun.poll() is not None and self._code is None:
            self._show_output(rest=True)
            self._line.send("ended", self._mpirun.returncode)
            self._code = self._mpirun.returncode & 0xFF
        if self.terminated and self._code is None:
            self._line.send("leaving", self._index)
            self._code = TERMINATED
        if now - self._heard > self._settings["lease_s"] and self._code is None:
            _say("eai: the notebook's machine is gone, or its group was ended there")
            self._code = UNREACHABLE

    # -- mpirun -------------------------------------------------------------------------

    def _start(self, order: dict[str, Any]) -> None:
        """Run ``mpirun`` over the pods' addresses."""
        os.environ.update(order["environment"])
        listen = {}
        if order["library"]:
            listen = listening.environment(order["networks"], Path(order["library"]))
        settings = {**rank_environment(order["per_pod"], order["cores"]), **AWAY, **listen}
        mpirun = find_mpirun()
        words = [mpirun, "-n", str(order["size"]), "--host", order["hosts"]]
        words += ["--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]
        words += ["--prefix", str(Path(mpirun).resolve().parent.parent), "--wdir", order["folder"]]
        words += ["--prtemca", "plm_ssh_agent", str(self._folder / "launch")]
        # All daemons are started from here: a pod has no agent's socket but its own.
        words += ["--prtemca", "plm_ssh_no_tree_spawn", "1"]
        words += daemon_arguments(listen)
        words += network_arguments(order["networks"], fabric=order["fabric"])
        words += forwarded(settings)
        rank = [sys.executable, *order["rank"][1:]]
        self._mpirun = subprocess.Popen(
            [*words, *rank],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._mpirun.stdout is not None  # noqa: S101  PIPE was asked for
        os.set_blocking(self._mpirun.stdout.fileno(), False)

    def _show_output(self, *, rest: bool = False) -> None:
        """Send what ``mpirun`` has printed."""
        if self._mpirun is None or self._mpirun.stdout is None:
            return
        number = self._mpirun.stdout.fileno()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(number, 1 << 16):
                self._line.send("text", data.decode(errors="replace"))
            if not rest:  # closed, by a program that goes on
                time.sleep(TICK_S)

    def _pass_on(self, parts: list[bytes]) -> None:
        """Pass a request of ``mpirun`` on to the runner, which knows the other pods."""
        *envelope, data = parts
        number = len(self._waiting) + 1 + int(time.monotonic() * 1000)
        self._waiting[number] = envelope
        self._line.send("launch", {"id": number, **json.loads(data)})

    def _end_mpirun(self) -> None:
        if self._mpirun is None or self._mpirun.poll() is not None:
            return
        self._mpirun.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._mpirun.wait(END_S)


def reach(where: dict[str, Any]) -> str | None:
    """Return why the notebook's machine cannot be reached; None once it can."""
    until = time.monotonic() + CONNECT_S
    while words := _refused(where):
        if time.monotonic() > until:
            return f"the notebook's machine cannot be reached at {where['address']}: {words}"
        time.sleep(0.5)
    return None


def _refused(where: dict[str, Any]) -> str | None:
    """Return why one try to connect fails."""
    try:
        socket.create_connection((where["address"], where["port"]), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None


def as_first_process() -> None:
    """Go on in a child: the first process of a pod has to wait for orphans, and gets no signal by default."""
    child = os.fork()
    if child == 0:
        return

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    while True:
        with contextlib.suppress(InterruptedError):
            pid, status = os.wait()
            if pid == child:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the agent to its end."""
    as_first_process()
    settings = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    if words := reach(settings["where"]):
        _say(f"eai: {words}")
        sys.exit(UNREACHABLE)
    agent = PodAgent(settings)

    def terminate(_number: int, _frame: object) -> None:
        agent.terminated = True

    signal.signal(signal.SIGTERM, terminate)
    sys.exit(agent.run())


if __name__ == "__main__":
    main()
