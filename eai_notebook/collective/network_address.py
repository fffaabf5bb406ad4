"""This host's address in the network that a group uses."""

from __future__ import annotations

import ipaddress
import socket


def own_address(networks: list[str]) -> str:
    """Return this host's first IPv4 address in `networks`, in their order of preference.

    Raises:
        RuntimeError: This host has no address in any of them.

    Examples:
        >>> own_address(["127.0.0.0/8"])
        '127.0.0.1'
    """
    import psutil

    ends = [end for name in psutil.net_if_addrs().values() for end in name]
    for network in map(ipaddress.ip_network, networks):
        for end in ends:
            if end.family == socket.AF_INET and ipaddress.ip_address(end.address) in network:
                return end.address
    message = f"this host has no address in {', '.join(networks)}"
    raise RuntimeError(message)
