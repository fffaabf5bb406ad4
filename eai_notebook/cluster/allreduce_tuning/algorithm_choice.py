"""Choose the allreduce algorithm for each message size, measured once for a set of hosts.

Open MPI's own choice of allreduce algorithm knows the number of ranks and the message's
size, but not the link. On slow links it is often half as fast as another. So each new set
of hosts is measured for a few seconds, in an ``mpirun`` of its own before the engines
start, and what was best is given to theirs as a rules file, with the pieces that large
messages are cut into (see `rules.fragment_size`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import platformdirs

from eai_notebook.cluster import remote_python
from eai_notebook.cluster.allreduce_tuning.mpirun_job import run_module
from eai_notebook.cluster.allreduce_tuning.openmpi_rules import (
    CANDIDATES,
    DEFAULT,
    USUAL_FRAGMENT,
    Algorithm,
    chosen_rules,
    fragment_size,
    mca_parameters,
    probe_rules,
    worth_trying,
)
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.collective.backend_registry import fusion_variable
from eai_notebook.errors import EaiError
from eai_notebook.files import keep_newest, private_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eai_notebook.cluster.preflight import Placement

SIZES: Final = (16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20)
STEP: Final = 64
"""Bytes between two candidates' messages of one size."""
BUDGET_S = 8.0
LINK_S = 1.0
CLEARLY: Final = 0.95
"""Another algorithm replaces Open MPI's choice if it takes at most this share of its time."""
NEARLY: Final = 1.03
LONG_S: Final = 0.05
LEAST_FUSED: Final = 2 << 20
MOST_FUSED: Final = 64 << 20
VERSION: Final = 4
MOST_KEPT: Final = 100
"""For how many sets of hosts a measurement is kept: those used last."""

_MARK: Final = "eai-tuning:"


@dataclass(frozen=True)
class SizeChoice:
    """What is used from about this size on, and how it did against Open MPI's own choice."""

    size: int
    algorithm: Algorithm
    seconds: float
    default_seconds: float


@dataclass(frozen=True)
class AllreduceChoice:
    """What was measured on a set of hosts, and what follows from it."""

    ranks: int
    goodput: float
    """Bytes a second that every link carries each way while all are full both ways."""
    sizes: tuple[SizeChoice, ...]
    measured_at: float

    def bus_bandwidth(self, seconds: float, size: int) -> float:
        """Return bytes/s by NCCL's definition: size / time x 2(N-1)/N."""
        return size / seconds * 2 * (self.ranks - 1) / self.ranks

    @property
    def message_s(self) -> float:
        """Return what each of a ring's messages takes beside its bytes, in seconds.

        It is what is left of the shortest sum's time when its bytes have passed the link.
        """
        least = min(self.sizes, key=lambda each: each.size)
        messages = 2 * (self.ranks - 1)
        moved = least.size * messages / self.ranks / self.goodput
        return max(least.seconds - moved, 0.0) / messages

    @property
    def fusion_threshold(self) -> int:
        """Return the bytes up to which the backend should put small tensors into one message.

        Twice the smallest size that is exchanged as fast as the largest: more would only
        keep the first gradients waiting for the last. What is exchanged in a moment does not
        count: buffers on the way may take it whole, and for each message the ranks have
        to agree, which takes milliseconds where cores are busy.
        """
        long = [each for each in self.sizes if each.seconds >= LONG_S] or self.sizes[-1:]
        rates = [self.bus_bandwidth(choice.seconds, choice.size) for choice in long]
        full = next(
            choice.size
            for choice, rate in zip(long, rates, strict=True)
            if rate >= 0.97 * max(rates)
        )
        return min(MOST_FUSED, max(LEAST_FUSED, 2 * full))

    def lines(self) -> list[str]:
        """Return what `%eai status` says of it."""
        age = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.measured_at))
        said = [f"  link {self.goodput / 1e6:.1f} MB/s each way, both at once (measured {age})"]
        for choice in self.sizes:
            rate = self.bus_bandwidth(choice.seconds, choice.size)
            own = self.bus_bandwidth(choice.default_seconds, choice.size)
            line = f"  {_bytes(choice.size):>6}  {rate / 1e6:6.1f} MB/s bus  {choice.algorithm}"
            if choice.algorithm != DEFAULT:
                line += f" ({own / 1e6:.1f} by {DEFAULT})"
            said.append(line)
        if (variable := fusion_variable()) is not None:
            said.append(f"  {variable[1]} fuses up to {_bytes(self.fusion_threshold)}")
        return said

    def environment(self) -> dict[str, str]:
        """Return the ranks' fusion threshold; a value the user has set stands, and is not tuned."""
        variable = fusion_variable()
        if variable is None:
            return {}
        name = variable[0]
        if name in os.environ:
            return {name: os.environ[name], "EAI_TUNE_FUSION": "0"}
        return {name: str(self.fusion_threshold)}


def choose(
    placement: Placement, progress: Callable[[str], None], *, again: bool = False
) -> AllreduceChoice | None:
    """Return the ring for the hosts of `placement`, measured now or earlier; None if there is no choice.

    There is none on one host, and none where the network is driven by something better
    than TCP. With `again` an earlier measurement is not used.

    Raises:
        EaiError: the measurement failed, such as by a host that went away.
    """
    if len(placement.hosts) < 2 or placement.fabric:  # noqa: PLR2004
        return None
    kept = _cache(placement)
    known = None if again else _read(kept)
    if known is not None:
        with contextlib.suppress(OSError):  # (what is used is kept)
            kept.touch()
        return known
    progress(f"measuring the link between {len(placement.hosts)} hosts, about {BUDGET_S + 5:.0f} s")
    choice = _measure(placement)
    private_folder(kept.parent)
    write_private(kept, json.dumps({"version": VERSION, **asdict(choice)}))
    keep_newest(kept.parent, "*.json", MOST_KEPT)
    return choice


def apply(placement: Placement, choice: AllreduceChoice) -> dict[str, str]:
    """Put the rules on every host; return the MCA parameters that have them used."""
    rows = [(each.size, each.algorithm) for each in choice.sizes]
    return mca_parameters(
        _deliver(placement, chosen_rules(choice.ranks, rows)), fragment_size(choice.goodput)
    )


def _measure(placement: Placement) -> AllreduceChoice:
    tried = [worth_trying(size, placement.size) for size in SIZES]
    asked = {
        "networks": placement.networks,
        "sizes": SIZES,
        "candidates": tried,
        "step": STEP,
        "link_s": LINK_S,
        "budget_s": BUDGET_S,
    }
    rules = mca_parameters(
        _deliver(placement, probe_rules(placement.size, SIZES, STEP)), USUAL_FRAGMENT
    )
    found = run_module(
        placement,
        rules,
        ("eai_notebook.cluster.allreduce_tuning.benchmark", json.dumps(asked)),
        mark=_MARK,
        what="measuring the link between the hosts",
    )
    middles = [
        {int(each): statistics.median(seconds) for each, seconds in times.items()}
        for times in found["times"]
    ]
    rows = zip(SIZES, middles, strict=True)
    choices = tuple(_choose_one(size, middle, _distance(middles)) for size, middle in rows)
    return AllreduceChoice(placement.size, found["goodput"], choices, time.time())


def _distance(middles: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return how far each candidate is from the best, on average over the sizes it was tried at."""
    far: dict[int, list[float]] = {}
    for middle in middles:
        for index, seconds in middle.items():
            far.setdefault(index, []).append(seconds / min(middle.values()))
    return {index: statistics.mean(ratios) for index, ratios in far.items()}


def _choose_one(
    size: int, middle: Mapping[int, float], distance: Mapping[int, float]
) -> SizeChoice:
    """Return the quickest at one size; Open MPI's own choice unless another is clearly so.

    A few tries cannot separate candidates that are nearly equal: of those it is the one
    with the least `distance`, so that the tries at other sizes count, too.
    """
    own = middle[CANDIDATES.index(DEFAULT)]
    best = min(middle.values())
    equal = [index for index, seconds in middle.items() if seconds <= best * NEARLY]
    chosen = min(equal, key=lambda index: distance[index])
    if middle[chosen] > CLEARLY * own:
        chosen = CANDIDATES.index(DEFAULT)
    return SizeChoice(size, CANDIDATES[chosen], middle[chosen], own)


def _deliver(placement: Placement, text: str) -> str:
    """Write `text` to one path on all hosts, and return the path."""
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = str(_folder() / f"{name}.rules")

    def put(name: str) -> str | None:
        wrong = remote_python.put_file(
            name, path, text, here=name in placement.here, most=MOST_KEPT
        )
        return f"{name}: {wrong}" if wrong else None

    with ThreadPoolExecutor(len(placement.hosts)) as writing:
        wrong = [each for each in writing.map(put, [host.name for host in placement.hosts]) if each]
    if wrong:
        what = f"{path} cannot be written ({'; '.join(wrong)})"
        raise EaiError(what, "make your home folder writable on every host", code="host-folder")
    return path


def _folder() -> Path:
    return platformdirs.user_cache_path("eai-notebook") / "rings"


def _cache(placement: Placement) -> Path:
    """Return where the choice for these hosts is kept: another MPI, or layout, is another choice."""
    try:
        mpi = importlib.metadata.version("openmpi")
    except importlib.metadata.PackageNotFoundError:
        mpi = find_mpirun()
    hosts = [(host.name, host.slots) for host in placement.hosts]
    key = json.dumps([hosts, placement.networks, mpi, VERSION, SIZES])
    return _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> AllreduceChoice | None:
    """Return the choice kept at `path`; None if there is none that can be read."""
    try:
        kept = json.loads(path.read_text())
        sizes = tuple(
            SizeChoice(**{**each, "algorithm": Algorithm(**each["algorithm"])})
            for each in kept["sizes"]
        )
        return AllreduceChoice(kept["ranks"], kept["goodput"], sizes, kept["measured_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bytes(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB"
