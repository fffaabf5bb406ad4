"""Context of a run besides its steps: hosts, input, exchange, named times.

A verdict names causes and remedies from it; whatever is unknown is left out of both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.ledger.cores import Shortage, shortage
from eai_notebook.ledger.step_schema import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eai_notebook.ledger.run_record import RunInfo

LABELS: Final = {
    "callback": "callbacks",
    "checkpoint": "saving checkpoints",
    "iterator": "making an iterator over the data",
    "compiling": "tracing and compiling the step",
    "collector": "Python's garbage collector",
    "section": "the section",
}
"""What the names of `step.NAMED` are called in a sentence."""

BETWEEN: Final = "between"
"""What `Context.named` calls things that go on between steps."""


@dataclass(frozen=True)
class Context:
    """Facts about a run; the dictionaries are keyed by rank.

    ``input`` is `waits.Sums`, ``cores`` `cores.Use`. ``named`` has seconds by kind and name,
    such as ``"callback Slow.on_train_batch_end"``.
    """

    hosts: Mapping[int, str] = field(default_factory=dict)
    input: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    named: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    cores: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, info: RunInfo) -> Context:
        """Return what a run's record says."""
        return cls(info.hosts, info.input, info.named, info.cores, info.meta)

    @property
    def on_one_host(self) -> bool:
        """Whether all ranks are known to be on one machine."""
        return len(set(self.hosts.values())) == 1

    @property
    def link(self) -> float | None:
        """What the slowest link between hosts carries each way, bytes/s; None on one host."""
        return None if self.on_one_host else self.meta.get("link_bytes_per_s")

    @property
    def message_s(self) -> float | None:
        """What a message between hosts takes beside its bytes, s; None on one host."""
        return None if self.on_one_host else self.meta.get("link_message_s")

    def shortage(self) -> Shortage | None:
        """Return what the ranks lack in processors; None if nothing, or it is not known."""
        return shortage(self.cores, self.hosts)

    def readers(self) -> int | None:
        """Return how many readers a rank had for its input; None without ours."""
        return self._most("readers")

    def queue(self) -> int | None:
        """Return how many batches a rank's input had queued at most; None without ours."""
        return self._most("queue")

    def _most(self, size: str) -> int | None:
        """Return a size of the input at the run's end or, while it goes on, at its beginning."""
        known = [use[size] for use in self.input.values() if size in use]
        begun = self.meta.get(size)
        if not known and isinstance(begun, int | float):
            known = [begun]
        return int(max(known)) if known else None

    def name_of(self, kind: str, ranks: Iterable[int]) -> str | None:
        """Return which thing of a kind took longest on some ranks; None if none is known.

        Examples:
            >>> context = Context(named={1: {"callback Slow.on_train_batch_end": 3.0}})
            >>> context.name_of("callback", [0, 1]), context.name_of("callback", [0])
            ('Slow.on_train_batch_end', None)
        """
        spent: dict[str, float] = {}
        for rank in ranks:
            for key, seconds in self.named.get(rank, {}).items():
                own_kind, _, name = key.partition(" ")
                if own_kind == kind and name:
                    spent[name] = spent.get(name, 0.0) + seconds
        return max(spent, key=lambda name: spent[name]) if spent else None

    def label(self, index: int, ranks: Iterable[int]) -> str:
        """Return what is said of the kind at an index in `NAMED`, by the name that it has."""
        kind = NAMED[index]
        name = self.name_of(kind, ranks)
        if name is None:
            return LABELS[kind]
        if kind in ("callback", "section"):
            return f"the {kind} `{name}`"
        return f"{LABELS[kind]} (`{name}`)"

    def between(self) -> list[tuple[str, float]]:
        """Return what went on between steps, the mean over ranks in seconds, longest first."""
        spent: dict[str, float] = {}
        for own in self.named.values():
            for key, seconds in own.items():
                kind, _, name = key.partition(" ")
                if kind == BETWEEN:
                    spent[name] = spent.get(name, 0.0) + seconds
        ranks = max(1, len(self.named))
        return sorted(((n, s / ranks) for n, s in spent.items()), key=lambda item: -item[1])
