"""`ClickColumns`: names, order and hash buckets of a click log's columns, which its readers need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from typing_extensions import Self

_MIN_BUCKETS = 2  # buckets of a column: missing, and one more


@dataclass(frozen=True)
class ClickColumns:
    """The columns of a delimited click log: a label, integers, hashed categoricals.

    Attributes:
        name: The schema's name in messages.
        integers: Names of the integer columns, in file order.
        categorical: Names of the categorical columns, in file order.
        buckets: Number of hash buckets of each categorical column, including bucket 0.
        crosses: Pairs of categorical columns whose combinations have weights of their own in
            the wide part of a model.
        missing_integer: The value of a missing integer.
    """

    name: str
    integers: tuple[str, ...]
    categorical: tuple[str, ...]
    buckets: tuple[int, ...]
    crosses: tuple[tuple[str, str], ...] = ()
    missing_integer: float = -1.0

    def __post_init__(self) -> None:
        if len(self.buckets) != len(self.categorical):
            raise EaiError(
                f"{self.name} has {len(self.categorical)} categorical columns, but "
                f"{len(self.buckets)} bucket counts",
                "give one bucket count for each column",
                code="schema-invalid",
            )
        if min(self.buckets, default=_MIN_BUCKETS) < _MIN_BUCKETS:
            raise EaiError(
                f"{self.name} has a column with {min(self.buckets)} buckets",
                "give at least 2, one of them for missing values",
                code="schema-invalid",
            )
        for pair in self.crosses:
            for column in pair:
                if column not in self.categorical:
                    raise EaiError(
                        f"{self.name} crosses {column!r}, which is not a categorical column",
                        f"choose from {self.categorical[0]} to {self.categorical[-1]}",
                        code="schema-invalid",
                    )

    @property
    def fields(self) -> int:
        """The number of fields in a row: the label, the integers, the categoricals."""
        return 1 + len(self.integers) + len(self.categorical)

    def with_buckets(self, buckets: int) -> Self:
        """Return the same schema with `buckets` hash buckets for every categorical."""
        return replace(self, buckets=(buckets,) * len(self.categorical))
