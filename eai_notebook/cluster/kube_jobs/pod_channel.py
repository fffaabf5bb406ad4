"""The line between a notebook's `pod_runner` and the `pod_agent` of each pod: JSON messages in CurveZMQ.

Each message is an object with one key, its kind. From agents: ``hello`` (index, address, what the pod is),
``text`` (output), ``ended`` (exit code), ``launch`` (run a command in another pod), ``launched`` (its exit
code), ``leaving`` (the pod was asked to end), ``alive``. To agents: ``start``, ``launch``, ``launched``,
``end``, ``alive``.
"""

from __future__ import annotations

import json
from typing import Any, Final

import zmq

from eai_notebook.cluster.keys import KeyPair, refuse_others, stop_refusing

ALIVE_S: Final = 3.0
"""How often each side says that it is there."""


class Runner:
    """The end beside the notebook: it listens, and lets in who has the group's pair.

    Args:
        address: This machine's address that pods connect to.
        group: The pair that agents show.
    """

    def __init__(self, address: str, group: KeyPair) -> None:
        self._own = KeyPair.make()
        self._context: zmq.Context[Any] = zmq.Context()
        refuse_others(self._context, group)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.curve_server = True
        self._socket.curve_publickey, self._socket.curve_secretkey = (
            self._own.public,
            self._own.secret,
        )
        self._socket.linger = 500
        port = self._socket.bind_to_random_port(f"tcp://{address}")
        self.port = port
        self.where = {
            "address": address,
            "port": port,
            "server": self._own.public.decode(),
            **group.fields(),
        }
        """What an agent needs to connect; it holds keys."""

    def receive(self, timeout_s: float) -> list[tuple[bytes, str, Any]]:
        """Return what has come: who sent it, its kind, its content."""
        found = []
        wait = self._socket.poll(int(timeout_s * 1000))
        while wait:
            who, data = self._socket.recv_multipart()
            ((kind, content),) = json.loads(data).items()
            found.append((who, kind, content))
            wait = self._socket.poll(0)
        return found

    def send(self, who: bytes, kind: str, content: Any = None) -> None:
        """Send a message to the agent that is called `who`."""
        self._socket.send_multipart([who, json.dumps({kind: content}).encode()])

    def close(self) -> None:
        """Send what is left, for half a second at most."""
        self._socket.close()
        stop_refusing(self._context)
        self._context.term()


class Agent:
    """The end in a pod."""

    def __init__(self, where: dict[str, Any], index: int) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.identity = f"pod-{index}".encode()
        pair = KeyPair.of(where)
        assert pair is not None, "the settings hold the pair"  # noqa: S101
        self.socket.curve_publickey, self.socket.curve_secretkey = pair.public, pair.secret
        self.socket.curve_serverkey = where["server"].encode()
        self.socket.linger = 1000
        self.socket.connect(f"tcp://{where['address']}:{where['port']}")

    def send(self, kind: str, content: Any = None) -> None:
        """Send a message to the runner."""
        self.socket.send(json.dumps({kind: content}).encode())

    def receive(self) -> tuple[str, Any]:
        """Return a message that has come."""
        ((kind, content),) = json.loads(self.socket.recv()).items()
        return kind, content

    def close(self) -> None:
        """Send what is left, for a second at most."""
        self.socket.close()
        self._context.term()
