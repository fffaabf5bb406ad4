"""One network of namespaces: a switch, a shaped link for each host, a desk on the machine itself.

The desk is the machine's own namespace, where the notebook (or the test) runs; its link
to the switch is not shaped. Every host hangs on a pair of interfaces: ``wire0`` inside the
host, a port of its name's on the switch. Both ends are shaped, so that each direction has
the given rate.
"""

from __future__ import annotations

import ipaddress
import json
import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hosts.leftovers import Remains

LINK = "wire0"
"""What a host calls its interface."""

BURST_S = 0.008
"""A token bucket smaller than this many seconds of its rate makes TCP lose throughput."""
SMALLEST_BURST = 128 * 1024
QUEUE_S = "30ms"


@dataclass(frozen=True)
class Wire:
    """One host's place in the network."""

    host: str
    namespace: str
    port: str
    address: str


class Network:
    """`count` hosts' namespaces on one switch, in a subnet nobody else has."""

    def __init__(self, tag: str, count: int, remains: Remains) -> None:
        self._switch = f"{tag}-sw"
        self._remains = remains
        self.subnet = free_subnet()
        addresses = list(self.subnet.hosts())
        self.desk = f"{tag}-desk"
        self.desk_address = str(addresses[0])
        self.wires = [
            Wire(f"{tag}-h{i}", f"{tag}-h{i}", f"{tag}-p{i}", str(addresses[i]))
            for i in range(1, count + 1)
        ]
        self._make_switch()
        self._make_desk()
        for wire in self.wires:
            self._make_host(wire)

    def shape(self, rate_mbit: float | None) -> None:
        """Give every link this rate in each direction, in Mbit/s; None takes the limit away."""
        for wire in self.wires:
            shape_one(wire.namespace, LINK, rate_mbit)
            shape_one(self._switch, wire.port, rate_mbit)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Return for each host the bytes it has sent and received on its link, headers included."""
        said = _run("ip", "-n", self._switch, "-s", "-json", "link", "show")
        seen = {port["ifname"]: port["stats64"] for port in json.loads(said)}
        return {  # what a host sends, its port receives
            wire.host: (seen[wire.port]["rx"]["bytes"], seen[wire.port]["tx"]["bytes"])
            for wire in self.wires
        }

    def cut(self, host: str) -> None:
        """Pull the host's cable."""
        (wire,) = [wire for wire in self.wires if wire.host == host]
        _run("ip", "-n", self._switch, "link", "set", wire.port, "down")

    def mend(self, host: str) -> None:
        """Plug the host's cable in again."""
        (wire,) = [wire for wire in self.wires if wire.host == host]
        _run("ip", "-n", self._switch, "link", "set", wire.port, "up")

    def _make_switch(self) -> None:
        self._make_namespace(self._switch)
        _run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "switch", "up")

    def _make_desk(self) -> None:
        self._remains.add("interfaces", self.desk)
        end = ("peer", "name", "desk", "netns", self._switch)
        _run("ip", "link", "add", self.desk, "type", "veth", *end)
        _run("ip", "-n", self._switch, "link", "set", "desk", "master", "switch", "up")
        _run("ip", "addr", "add", f"{self.desk_address}/{self.subnet.prefixlen}", "dev", self.desk)
        _run("ip", "link", "set", self.desk, "up")

    def _make_host(self, wire: Wire) -> None:
        self._make_namespace(wire.namespace)
        ip = ("ip", "-n", wire.namespace)
        end = ("peer", "name", wire.port, "netns", self._switch)
        _run(*ip, "link", "add", LINK, "type", "veth", *end)
        _run("ip", "-n", self._switch, "link", "set", wire.port, "master", "switch", "up")
        _run(*ip, "addr", "add", f"{wire.address}/{self.subnet.prefixlen}", "dev", LINK)
        _run(*ip, "link", "set", "lo", "up")
        _run(*ip, "link", "set", LINK, "up")

    def _make_namespace(self, name: str) -> None:
        self._remains.add("namespaces", name)
        _run("ip", "netns", "add", name)


def shape_one(namespace: str, interface: str, rate_mbit: float | None) -> None:
    """Give one end of a link this rate for what it sends; None takes the limit away."""
    tc = ("tc", "-n", namespace, "qdisc")
    subprocess.run([*tc, "del", "dev", interface, "root"], capture_output=True, check=False)
    if rate_mbit is None:
        return
    burst = max(SMALLEST_BURST, int(rate_mbit * 1e6 / 8 * BURST_S))
    limits = ("rate", f"{rate_mbit}mbit", "burst", str(burst), "latency", QUEUE_S)
    _run(*tc, "add", "dev", interface, "root", "tbf", *limits)


def free_subnet() -> ipaddress.IPv4Network:
    """Return a /24 that no route of this machine leads to."""
    taken = [
        ipaddress.ip_network(route["dst"])
        for route in json.loads(_run("ip", "-json", "route", "show", "table", "all"))
        if route.get("dst", "default") != "default" and ":" not in route["dst"]
    ]
    choices = [
        ipaddress.IPv4Network(f"10.{a}.{b}.0/24") for a in range(64, 128) for b in range(256)
    ]
    for subnet in random.sample(choices, 200):
        if not any(subnet.overlaps(other) for other in taken if isinstance(other, type(subnet))):
            return subnet
    raise RuntimeError("no subnet of 10.64.0.0/10 is free")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout
