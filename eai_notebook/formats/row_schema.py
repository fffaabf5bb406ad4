"""`RowSchema`: the protocol between formats and schemas such as `eai_notebook.io.ClickSchema`.

Formats know no schema by name: a schema makes the readers of its rows. A class of another package
with these members can be passed to `eai_notebook.io.parquet`, `arrow` and `tfrecord` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader


class RowSchema(Protocol):
    """A schema that turns rows, in columns or in records, into features."""

    @property
    def name(self) -> str:
        """The schema's name in messages."""

    def table_reader(self, label: str) -> TableReader:
        """Return the reader of rows in columns (Parquet, Arrow); `label` is the label's column."""

    def example_reader(self, label: str) -> ExampleReader:
        """Return the reader of rows in `tf.train.Example`; `label` is the label's feature."""
