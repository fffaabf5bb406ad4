"""`RowSchema`: the protocol between formats and schemas such as `eai_notebook.io.ClickSchema`.

`reader_for` returns the reader of rows in columns: the schema's, or that of columns by name.

Formats know no schema by name: a schema makes the readers of its rows. A class of another package
with these members can be passed to `eai_notebook.io.parquet`, `arrow` and `tfrecord` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from eai_notebook.errors import EaiError
from eai_notebook.formats.plain_table import PlainTable

if TYPE_CHECKING:
    import pyarrow as pa

    from eai_notebook.formats.plain_table import Chosen, Missing, Peek
    from eai_notebook.formats.table_reader import TableReader
    from eai_notebook.formats.tfrecord.feature_readers import ExampleReader
    from eai_notebook.io.sources.file import File


class RowSchema(Protocol):
    """A schema that turns rows, in columns or in records, into features."""

    @property
    def name(self) -> str:
        """The schema's name in messages."""

    def table_reader(self, label: str) -> TableReader:
        """Return the reader of rows in columns (Parquet, Arrow); `label` is the label's column."""

    def example_reader(self, label: str) -> ExampleReader:
        """Return the reader of rows in `tf.train.Example`; `label` is the label's feature."""


def reader_for(
    schema: RowSchema | None,
    columns: Chosen,
    label: str | None,
    missing: Missing,
    first: pa.Schema,
    file: File,
    peek: Peek,
) -> TableReader:
    """Return the reader for the options of `parquet` and `arrow`.

    Args:
        schema: Makes the reader, if given.
        columns: Names of columns, or of features with their columns.
        label: The label's column.
        missing: Values that replace nulls.
        first: The first file's columns.
        file: The first file.
        peek: Reads some columns of the first rows.

    Raises:
        EaiError: The options contradict each other or the first file's columns.
    """
    if schema is None:
        return PlainTable.of(columns, label, missing, first, file, peek)
    if columns is not None or missing is not None:
        raise EaiError(
            f"schema={schema.name} and `columns` or `missing` were given, but a schema sets both",
            "leave out `columns` and `missing`, or the schema",
            code="options-conflict",
        )
    return schema.table_reader(label or "label")
