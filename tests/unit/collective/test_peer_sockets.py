"""Limits on connections to other hosts, and none on those to the controller and on loopback."""

from __future__ import annotations

import socket

import psutil
import pytest

from eai_notebook.collective import peer_sockets


def own_address() -> str | None:
    """Return an address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                return str(each.address)
    return None


def limit_of(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_connections_to_other_hosts_alone_are_limited() -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has loopback only")
    with (
        socket.create_server((address, 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as near,
    ):
        peer = socket.create_connection(server.getsockname())
        local = socket.create_connection(near.getsockname())
        with peer, local:
            peer_sockets.look({}, [address])
            assert limit_of(peer) == 0
            peer_sockets.look({})
            assert limit_of(peer) == peer_sockets.SILENT_S * 1000
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert limit_of(local) == 0
            peer.sendall(b"still there")


def test_connections_on_which_nothing_comes_are_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has loopback only")
    since: dict[str, float] = {}
    with (
        socket.create_server((address, 0)) as server,
        socket.create_connection(server.getsockname()) as peer,
        server.accept()[0] as other,
    ):
        other.settimeout(30)
        assert peer_sockets.look(since) >= 2
        since = dict.fromkeys(since, -1e9)  # all have had the time to hear something, and have
        peer_sockets.look(since)
        peer.sendall(b"still there")
        assert other.recv(99) == b"still there"
        monkeypatch.setattr(peer_sockets, "silent_s", lambda _: float(peer_sockets.SILENT_S))
        peer_sockets.look(since)
        assert other.recv(1) == b""
