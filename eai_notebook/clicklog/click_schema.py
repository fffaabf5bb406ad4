"""`ClickSchema`: the columns of a click log and how each becomes a number.

The schema is the one thing the generator, the readers and the models share: a model made
from a schema fits every reader of that schema.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader

_FEWEST = 2  # buckets of a column: missing, and one more


@dataclass(frozen=True)
class ClickSchema:
    """The columns of a delimited click log: a label, integers, hashed categoricals.

    Integers become ``sign(x) * log1p(abs(x))`` because counts in click logs are heavy
    tailed; a missing one becomes `missing_integer`. A categorical, a 32-bit value written as
    eight hexadecimal digits, is hashed into its number of `buckets`; bucket 0 is kept for
    the missing ones, so that a model can learn what missing means.

    Attributes:
        name: What the schema is called in messages.
        integers: Names of the integer columns, in file order.
        categorical: Names of the categorical columns, in file order.
        buckets: Hash buckets of each categorical column, bucket 0 included.
        crosses: Pairs of categorical columns whose combination is worth a weight of its own
            in the wide part of a model.
        missing_integer: What a missing integer becomes.

    Examples:
        >>> CRITEO.fields, len(CRITEO.integers), len(CRITEO.categorical)
        (40, 13, 26)
        >>> CRITEO.with_buckets(1000).buckets[0]
        1000
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
                f"{self.name}: {len(self.categorical)} categorical columns, "
                f"{len(self.buckets)} bucket counts",
                "give one bucket count a column",
                code="schema-invalid",
            )
        if min(self.buckets, default=_FEWEST) < _FEWEST:
            raise EaiError(
                f"{self.name}: a column has {min(self.buckets)} bucket",
                "give at least 2, one of them for missing values",
                code="schema-invalid",
            )
        for pair in self.crosses:
            for column in pair:
                if column not in self.categorical:
                    raise EaiError(
                        f"{self.name}: no categorical column {column!r} to cross",
                        f"choose from {self.categorical[0]} to {self.categorical[-1]}",
                        code="schema-invalid",
                    )

    @property
    def fields(self) -> int:
        """Fields in a row: the label, the integers, the categoricals."""
        return 1 + len(self.integers) + len(self.categorical)

    def with_buckets(self, buckets: int) -> ClickSchema:
        """Return the same schema with `buckets` hash buckets for every categorical."""
        return replace(self, buckets=(buckets,) * len(self.categorical))

    def table_reader(self, label: str) -> TableReader:
        """Return the reader of this schema's rows in columns (Parquet, Arrow)."""
        from eai_notebook.clicklog.click_table import ClickTable

        return ClickTable(self, label)

    def example_reader(self, label: str) -> ExampleReader:
        """Return the reader of this schema's rows in records of `tf.train.Example`."""
        from eai_notebook.clicklog.click_examples import ClickExamples

        return ClickExamples(self, label)


_FEW = ("C5", "C6", "C8", "C9", "C14", "C17", "C20", "C22", "C23", "C25")

CRITEO: Final = ClickSchema(
    name="Criteo",
    integers=tuple(f"I{i}" for i in range(1, 14)),
    categorical=tuple(f"C{i}" for i in range(1, 27)),
    buckets=tuple(1000 if f"C{i}" in _FEW else 3000 for i in range(1, 27)),
    crosses=(("C25", "C14"), ("C6", "C23"), ("C8", "C17"), ("C9", "C22"), ("C20", "C25")),
)
"""The display-advertising logs published by Criteo Labs: tab separated, one label, 13
integers `I1` to `I13`, 26 categoricals `C1` to `C26`. The buckets suit some hundred
thousand rows; for the published millions take `CRITEO.with_buckets(100_000)` or so. The
crosses are of columns with few distinct values, whose combinations are seen often enough
to be learned."""
