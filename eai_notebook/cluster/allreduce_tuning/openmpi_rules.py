"""Open MPI's allreduce algorithms and the rules file that selects one for each message size.

The numbers and the file's layout are those of the ``tuned`` component
(``ompi_info --param coll tuned --level 9``, ``coll_tuned_dynamic_file.c``).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALLREDUCE: Final = 2
_NAMES: Final = {
    0: "Open MPI's own choice",
    3: "recursive doubling",
    4: "ring",
    5: "ring in segments",
    6: "Rabenseifner",
}

USUAL_FRAGMENT: Final = 128 << 10
"""For a link that is not known yet."""
EAGER: Final = (256 << 10) + 1024
"""Bytes, with MPI's own, up to which a message travels without being asked for."""
_LEAST_FRAGMENT: Final = 16 << 10
_FRAGMENT_S: Final = 0.001
"""How long the link may be busy with one fragment; Open MPI has four on their way."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by Open MPI's number, with its segment size in bytes (0: none)."""

    number: int
    segment: int = 0

    def __str__(self) -> str:
        """Name it as the field does."""
        name = _NAMES[self.number]
        return f"{name} of {self.segment // 1024} kB" if self.segment else name


DEFAULT: Final = Algorithm(0)
CANDIDATES: Final = (
    DEFAULT,
    Algorithm(3),
    Algorithm(6),
    Algorithm(4),
    Algorithm(5, 128 << 10),
    Algorithm(5, 256 << 10),
    Algorithm(5, 512 << 10),
    Algorithm(5, 1 << 20),
)
"""What is tried. Segments keep several messages in flight: while one is summed, the next travels."""


def worth_trying(size: int, ranks: int) -> list[int]:
    """Return the indices in `CANDIDATES` of what can be quickest at `size` bytes on `ranks`.

    A ring's messages are a rank's part of the data, and segments cut those further; to
    send all of a large message in every round cannot be quick.
    """
    part = size // ranks
    found = []
    for index, candidate in enumerate(CANDIDATES):
        if candidate.number in (3, 6) and size > (4 << 20):
            continue
        if candidate.segment and candidate.segment >= part:
            continue
        found.append(index)
    return found


def rules_text(ranks: int, rows: Sequence[tuple[int, Algorithm]]) -> str:
    """Return the file that has `ranks` ranks use each row's algorithm from its size on (bytes).

    A part of them does so, too: Open MPI takes the rows of the next smaller number of ranks.
    """
    numbers = sorted({2, ranks})
    lines = ["1", str(_ALLREDUCE), str(len(numbers))]
    for number in numbers:
        lines += [str(number), str(len(rows))]
        lines += [f"{size} {algorithm.number} 0 {algorithm.segment}" for size, algorithm in rows]
    return "\n".join(lines) + "\n"


def probe_rules(ranks: int, sizes: Sequence[int], step: int) -> str:
    """Return rules under which ``size + index * step`` bytes are summed by that candidate."""
    rows: list[tuple[int, Algorithm]] = [(0, DEFAULT)]
    for size in sizes:
        rows += [(size + step * index, each) for index, each in enumerate(CANDIDATES)]
        rows.append((size + step * len(CANDIDATES), DEFAULT))
    return rules_text(ranks, rows)


def chosen_rules(ranks: int, chosen: Sequence[tuple[int, Algorithm]]) -> str:
    """Return rules that use what was best at each measured size, up to half-way to the next."""
    rows = [(0, chosen[0][1])]
    for (size, _), (following, algorithm) in itertools.pairwise(chosen):
        rows.append((math.isqrt(size * following), algorithm))
    return rules_text(ranks, rows)


def fragment_size(goodput: float) -> int:
    """Return in how many bytes a large message should travel on a link of `goodput` bytes/s.

    Open MPI writes the whole of it to the connection at once. If the peer then asks for its own
    message to be fetched, the request waits behind all of that, and one direction of the link is
    idle while the other is full: two ranks need up to twice the time, four one and a half times.
    In fragments the request gets through; too small ones cost a quick link more than they give.

    Examples:
        >>> fragment_size(25e6), fragment_size(1.2e9)
        (16384, 1048576)
    """
    return 1 << int(math.log2(max(_LEAST_FRAGMENT, goodput * _FRAGMENT_S)))


def mca_parameters(path: str, fragment: int) -> dict[str, str]:
    """Return the MCA parameters that have the rules in the file at `path` used.

    Large messages travel in pieces of ``fragment`` bytes. Those of up to 256 kB, and so the parts
    of up to 1 MB on four ranks, go off at once and whole: to ask first costs them more than the
    copy that they need on arrival.
    """
    return {
        "btl_tcp_eager_limit": str(EAGER),
        "btl_tcp_max_send_size": str(EAGER),
        "btl_tcp_rdma_pipeline_frag_size": str(fragment),
        # They come before `tuned` otherwise, and know no rules.
        "coll": "^han,adapt",
        "coll_tuned_use_dynamic_rules": "1",
        "coll_tuned_dynamic_rules_filename": path,
    }
