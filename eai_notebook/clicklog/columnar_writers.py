"""Write click logs as Parquet, Arrow, TFRecord or fixed-width records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from eai_notebook.clicklog.text_parser import MISSING
from eai_notebook.clicklog.text_part import IDS, NUMBERS
from eai_notebook.formats.tfrecord.example_writer import ABSENT, to_records
from eai_notebook.io.part import LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_columns import ClickColumns
    from eai_notebook.clicklog.text_parser import Parsed

To = Literal["parquet", "arrow", "tfrecord", "binary"]
SUFFIX: Final[dict[str, str]] = {
    "parquet": ".parquet",
    "arrow": ".arrow",
    "tfrecord": ".tfrecord",
    "binary": ".npy",
}
assert set(SUFFIX) == set(get_args(To))  # noqa: S101 - the type checker needs the list twice

GROUP: Final = 65_536
"""Rows of a row group or record batch: enough to read fast, few enough to shuffle well."""


class TooWideError(Exception):
    """An integer does not fit 32 bits: the file must be written again with 64-bit columns."""


class Writer(Protocol):
    """Writes one file."""

    def write(self, parsed: Parsed) -> None:
        """Add rows."""

    def close(self) -> None:
        """Finish the file."""


def writer_for(to: To, path: Path, schema: ClickColumns, *, wide: bool) -> Writer:
    """Return the writer of `path`; integers have 64 bits if `wide`, else 32."""
    if to == "tfrecord":
        return _Records(path, schema)
    if to == "binary":
        return _Binary(path, schema)
    return _Table(to, path, schema, wide=wide)


class _Table:
    """Raw values in columns, null if missing, as other tools expect."""

    def __init__(self, to: To, path: Path, schema: ClickColumns, *, wide: bool) -> None:
        integer = pa.int64() if wide else pa.int32()
        self._schema = pa.schema(
            [("label", pa.uint8())]
            + [(name, integer) for name in schema.integers]
            + [(name, pa.uint32()) for name in schema.categorical]
        )
        self._pending: list[pa.RecordBatch] = []
        if to == "parquet":
            # Dictionaries and compression would halve the file's size and double the time to read.
            self._writer: Any = pq.ParquetWriter(
                path,
                self._schema,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
            )
        else:
            self._writer = ipc.new_file(str(path), self._schema)

    def write(self, parsed: Parsed) -> None:
        labels = parsed.rows.labels[:, 0].astype(np.uint8)
        integers, values = parsed.raw.integers, parsed.raw.values
        columns = [pa.array(labels)]
        kind = self._schema.field(1).type
        columns += [_narrowed(column, column == MISSING, kind) for column in integers.T]
        columns += [pa.array(column.astype(np.uint32), mask=column < 0) for column in values.T]
        self._pending.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        if sum(batch.num_rows for batch in self._pending) >= GROUP:
            self._flush(everything=False)

    def close(self) -> None:
        self._flush(everything=True)
        self._writer.close()

    def _flush(self, *, everything: bool) -> None:
        """Write complete groups, and the rest too if `everything`."""
        table = pa.Table.from_batches(self._pending, self._schema).combine_chunks()
        end = table.num_rows if everything else table.num_rows // GROUP * GROUP
        for begin in range(0, end, GROUP):
            group = table.slice(begin, min(GROUP, end - begin))
            if isinstance(self._writer, pq.ParquetWriter):
                self._writer.write_table(group, row_group_size=GROUP)
            else:
                self._writer.write_table(group, max_chunksize=GROUP)
        self._pending = table.slice(end).to_batches()


def _narrowed(column: NDArray[np.int64], missing: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    if kind == pa.int32():
        present = column[~missing]
        if len(present) and (present.min() < -(1 << 31) or present.max() >= 1 << 31):
            raise TooWideError
        return pa.array(column.astype(np.int32), mask=missing)
    return pa.array(np.ascontiguousarray(column), mask=missing)


class _Records:
    """One feature a column, absent where missing."""

    def __init__(self, path: Path, schema: ClickColumns) -> None:
        self._file = path.open("wb")
        self._names = ("label", *schema.integers, *schema.categorical)

    def write(self, parsed: Parsed) -> None:
        labels = parsed.rows.labels[:, 0].astype(np.int64)
        integers = np.where(parsed.raw.integers == MISSING, ABSENT, parsed.raw.integers)
        values = np.where(parsed.raw.values < 0, ABSENT, parsed.raw.values)
        fields = np.concatenate([labels[:, None], integers, values], axis=1)
        self._file.write(to_records(fields, self._names).data)

    def close(self) -> None:
        self._file.close()


class _Binary:
    """The model's features in a `.npy` file, so that readers need not transform them."""

    def __init__(self, path: Path, schema: ClickColumns) -> None:
        self._dtype = np.dtype(
            [
                (NUMBERS, "<f4", (len(schema.integers),)),
                (IDS, "<i4", (len(schema.categorical),)),
                (LABEL, "<f4", (1,)),
            ]
        )
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()
        self._begin = self._file.tell()

    def write(self, parsed: Parsed) -> None:
        records = np.empty(len(parsed.rows), self._dtype)
        records[NUMBERS] = parsed.rows.numbers
        records[IDS] = parsed.rows.ids
        records[LABEL] = parsed.rows.labels
        records.tofile(self._file)
        self._rows += len(records)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        # NumPy reserves space in the header for a row count of any length.
        assert self._file.tell() == self._begin  # noqa: S101 - or the data would be overwritten
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
