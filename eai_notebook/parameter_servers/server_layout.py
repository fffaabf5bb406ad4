"""Lay out workers and parameter servers over the ranks, and weights over the servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Layout:
    """The ranks that are workers, and those that are servers; a rank may be both."""

    workers: tuple[int, ...]
    servers: tuple[int, ...]


def lay_out(size: int, servers: int, *, apart: bool) -> Layout:
    """Return who does what in a group of `size` ranks.

    Servers share their ranks with workers, spread evenly; if they are `apart`, the last
    ranks are servers and nothing else.

    Raises:
        EaiError: there are not so many ranks, or no server, or no worker is left.

    Examples:
        >>> lay_out(4, 2, apart=False)
        Layout(workers=(0, 1, 2, 3), servers=(0, 2))
        >>> lay_out(6, 2, apart=True)
        Layout(workers=(0, 1, 2, 3), servers=(4, 5))
    """
    most = size - 1 if apart else size
    if not 1 <= servers <= most:
        what = f"{servers} parameter servers cannot be in a group of {size} ranks"
        raise EaiError(what, f"choose 1 to {most}" if most else "start more ranks")
    if apart:
        return Layout(tuple(range(size - servers)), tuple(range(size - servers, size)))
    return Layout(tuple(range(size)), tuple(k * size // servers for k in range(servers)))


def spread(sizes: Sequence[int], servers: int) -> list[int]:
    """Return for each variable the server it lies on: the largest first, each where least is.

    `sizes` are bytes.

    Examples:
        >>> spread([10, 40, 30, 5], 2)
        [1, 0, 1, 0]
    """
    load = [0] * servers
    place = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place[index] = load.index(min(load))
        load[place[index]] += sizes[index]
    return place


def exchange_seconds(
    size: float, workers: int, servers: int, goodput: float, *, apart: bool
) -> float:
    """Return how long one synchronous step's exchange takes if links are all that counts, in s.

    Every worker fetches and sends `size` bytes a step; a server's link carries its part
    of that for each worker but one of its own rank. `goodput` is a link's bytes/s each way.

    Examples:
        >>> exchange_seconds(100.0, 4, 2, 100.0, apart=True)
        4.0
        >>> exchange_seconds(100.0, 4, 2, 100.0, apart=False)
        3.0
    """
    peers = workers if apart else workers - 1
    return 2 * size * peers / servers / goodput


def ring_seconds(size: float, ranks: int, goodput: float) -> float:
    """Return how long a ring allreduce of `size` bytes takes by the same model, in s.

    Examples:
        >>> ring_seconds(100.0, 4, 100.0)
        1.5
    """
    return 2 * (ranks - 1) / ranks * size / goodput
