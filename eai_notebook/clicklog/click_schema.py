"""`ClickSchema`: the columns of a click log and how each becomes a number.

The generator, the readers and the models share the schema: a model made from a schema fits every
reader with that schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eai_notebook.clicklog.click_columns import ClickColumns

if TYPE_CHECKING:
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader


@dataclass(frozen=True)
class ClickSchema(ClickColumns):
    """The columns of a click log, and the readers of files that hold them.

    Integers become ``sign(x) * log1p(abs(x))``, because counts in click logs are heavy-tailed; a
    missing integer becomes `missing_integer`. A categorical, a 32-bit value written as eight
    hexadecimal digits, is hashed into one of its `buckets`; bucket 0 means missing, so a model can
    learn from it. The attributes are those of `ClickColumns`.

    Examples:
        >>> CRITEO.fields, len(CRITEO.integers), len(CRITEO.categorical)
        (40, 13, 26)
        >>> CRITEO.with_buckets(1000).buckets[0]
        1000
    """

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
thousand rows; for the published millions use about `CRITEO.with_buckets(100_000)`. The
crosses are of columns with few distinct values, whose combinations are frequent enough to
be learned."""
