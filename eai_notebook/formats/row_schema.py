"""`RowSchema`: what a reader asks of a schema, which makes the readers of its own rows.

A format knows no schema by name. `eai_notebook.io.ClickSchema` is one; another package's class with
these members is taken by `eai_notebook.io.parquet`, `arrow` and `tfrecord` in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader


class RowSchema(Protocol):
    """A schema that knows how to make features of rows, in columns or in records."""

    @property
    def name(self) -> str:
        """What the schema is called in messages."""

    def table_reader(self, label: str) -> TableReader:
        """Return the reader of rows in columns (Parquet, Arrow); `label` is the label's column."""

    def example_reader(self, label: str) -> ExampleReader:
        """Return the reader of rows in `tf.train.Example`; `label` is the label's feature."""
