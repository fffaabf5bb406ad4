"""CurveZMQ keys of a group: who may connect to its sockets, and how that is checked.

ipyparallel's controller has a key pair, and any process that knows its public key may connect: a client's
own key is not looked at. Here the controller makes a second pair, which is the group's: every
engine, nanny and client connects with it, and each listening process refuses any other key
(ZAP, RFC 27). Both are in the group's connection files, which only their user may read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

PUBLIC = "curve_publickey"
SECRET = "curve_secretkey"  # noqa: S105  the name of a field
"""The fields of a connection file that hold the group's pair."""

_checked: dict[int, ThreadAuthenticator] = {}


@dataclass(frozen=True)
class KeyPair:
    """A CurveZMQ key pair, each key in Z85 (40 characters)."""

    public: bytes
    secret: bytes

    @classmethod
    def make(cls) -> KeyPair:
        """Return a new pair."""
        return cls(*zmq.curve_keypair())

    @classmethod
    def of(cls, connection: dict[str, Any]) -> KeyPair | None:
        """Return the group's pair out of a connection file; None if it holds none."""
        public, secret = connection.get(PUBLIC), connection.get(SECRET)
        return cls(public.encode(), secret.encode()) if public and secret else None

    def fields(self) -> dict[str, str]:
        """Return the pair as fields of a connection file."""
        return {PUBLIC: self.public.decode(), SECRET: self.secret.decode()}


class _Known:
    """The keys that may connect, as `zmq.auth` asks for them."""

    def __init__(self, public: tuple[bytes, ...]) -> None:
        self._public = public

    def callback(self, _domain: str, key: bytes) -> bool:
        return key in self._public


def refuse_others(context: zmq.Context[Any], *known: KeyPair) -> None:
    """Let only the `known` pairs connect to the CURVE sockets of `context`, once for each context.

    It must be called before the first of them listens.
    """
    if id(context) in _checked:
        return
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve_callback("*", _Known(tuple(pair.public for pair in known)))
    _checked[id(context)] = guard  # which holds the context, so that its id is not another's


def stop_refusing(context: zmq.Context[Any]) -> None:
    """End the check of `context`: its thread holds a socket, and keeps ``term`` from returning."""
    guard = _checked.pop(id(context), None)
    if guard is not None:
        guard.stop()


def use_for_all(pair: KeyPair) -> None:
    """Have ipyparallel connect with `pair` wherever it would make up a pair, in this process.

    It does so for sockets whose servers, in its own set-up, look at no client's key. Only for
    processes that belong to one group, never for a notebook's kernel.
    """
    zmq.curve_keypair = lambda: (pair.public, pair.secret)
