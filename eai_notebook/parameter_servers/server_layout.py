"""Assign workers and parameter servers to ranks, and weights to servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Layout:
    """The ranks that are workers and the ranks that are servers; a rank may be both."""

    workers: tuple[int, ...]
    servers: tuple[int, ...]


def lay_out(size: int, servers: int, *, apart: bool) -> Layout:
    """Return the roles in a group of `size` ranks.

    Servers share their ranks with workers, spread evenly. With `apart`, the last ranks are servers
    only.

    Raises:
        EaiError: There are too few ranks, no server, or no worker left.

    Examples:
        >>> lay_out(4, 2, apart=False)
        Layout(workers=(0, 1, 2, 3), servers=(0, 2))
        >>> lay_out(6, 2, apart=True)
        Layout(workers=(0, 1, 2, 3), servers=(4, 5))
    """
    most = size - 1 if apart else size
    if not 1 <= servers <= most:
        raise EaiError(
            f"invalid number of parameter servers in a group of {size} ranks: {servers}",
            f"choose 1 to {most}" if most else "start more ranks",
            code="server-count-invalid",
        )
    if apart:
        return Layout(tuple(range(size - servers)), tuple(range(size - servers, size)))
    return Layout(tuple(range(size)), tuple(k * size // servers for k in range(servers)))


def spread(sizes: Sequence[int], servers: int) -> list[int]:
    """Return the server of each variable: the largest first, each on the least loaded server.

    `sizes` are in bytes.

    Examples:
        >>> spread([10, 40, 30, 5], 2)
        [1, 0, 1, 0]
    """
    load = [0] * servers
    server_of = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        server_of[index] = load.index(min(load))
        load[server_of[index]] += sizes[index]
    return server_of


def exchange_seconds(
    size: float, workers: int, servers: int, goodput: float, *, apart: bool
) -> float:
    """Return the time in s of one synchronous step's exchange, limited by links only.

    Every worker fetches and sends `size` bytes a step. A server's link carries its part of that for
    each worker on another rank. `goodput` is a link's bytes/s each way.

    Examples:
        >>> exchange_seconds(100.0, 4, 2, 100.0, apart=True)
        4.0
        >>> exchange_seconds(100.0, 4, 2, 100.0, apart=False)
        3.0
    """
    peers = workers if apart else workers - 1
    return 2 * size * peers / servers / goodput


def ring_seconds(size: float, ranks: int, goodput: float) -> float:
    """Return the time in s of a ring allreduce of `size` bytes, limited by links only.

    Examples:
        >>> ring_seconds(100.0, 4, 100.0)
        1.5
    """
    return 2 * (ranks - 1) / ranks * size / goodput
