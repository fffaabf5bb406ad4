"""What the footer's reader finds in Arrow files is what Arrow's library finds."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from expected_errors import raises_code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from eai_notebook.errors import EaiError
from eai_notebook.formats.arrow_ipc.arrow_footer import blocks_of, check_buffers, rows_of
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.io.sources.file import File

QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NUMBERS = itertools.count()
KINDS = {
    "numbers": lambda rows: pa.array([None if i % 3 == 0 else i for i in range(rows)], pa.int64()),
    "floats": lambda rows: pa.array(np.arange(rows, dtype="f4")),
    "texts": lambda rows: pa.array([str(i) * (i % 5) for i in range(rows)]),
    "lists": lambda rows: pa.array([[i, i] for i in range(rows)], pa.list_(pa.int16())),
    "coded": lambda rows: pa.array([str(i % 4) for i in range(rows)]).dictionary_encode(),
}


@st.composite
def files(drawn: st.DrawFn) -> bytes:
    """Draw an Arrow file."""
    names = drawn(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True))
    sizes = drawn(st.lists(st.integers(0, 40), min_size=0, max_size=6))
    options = ipc.IpcWriteOptions(
        compression=drawn(st.sampled_from([None, "lz4", "zstd"])),
        use_legacy_format=drawn(st.booleans()),
        metadata_version=drawn(st.sampled_from([ipc.MetadataVersion.V4, ipc.MetadataVersion.V5])),
    )
    rows = max([*sizes, 5])
    whole = pa.record_batch({name: KINDS[name](rows) for name in names})
    target = io.BytesIO()
    with ipc.new_file(target, whole.schema, options=options) as out:
        for size in sizes:
            out.write_batch(whole.slice(0, size))
    return target.getvalue()


def written(folder: Path, text: bytes) -> File:
    path = folder / f"{next(NUMBERS)}.arrow"  # what is known of a file is kept by its name
    path.write_bytes(text)
    (found,) = find_files(path)
    return found


def ours(file: File) -> list[int]:
    count = len(blocks_of(file).batches)
    rows = []
    for number in range(count):
        check_buffers(file, number)
        rows.append(rows_of(file, number))
    return rows


def theirs(text: bytes) -> list[int]:
    opened = ipc.open_file(pa.BufferReader(text))
    return [opened.get_batch(number).num_rows for number in range(opened.num_record_batches)]


@QUICK
@given(text=files())
def test_batches_rows_and_places_are_arrows(text: bytes, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    assert ours(file) == theirs(text)
    for block in blocks_of(file).batches:
        message = ipc.read_message(pa.BufferReader(text[block.begin :]))
        assert message.type == "record batch"
        assert (message.body.size if message.body is not None else 0) == block.body


@QUICK
@given(text=files(), data=st.data())
def test_a_changed_file_is_read_as_arrow_reads_it_or_refused(
    text: bytes, data: Any, tmp_path: Path
) -> None:
    # Where the footer and the batches are described, which is where bytes mean places.
    at = data.draw(st.integers(8, len(text) - 11))
    changed = bytearray(text)
    changed[at : at + 4] = struct.pack("<I", data.draw(st.integers(0, (1 << 32) - 1)))[
        : len(text) - at
    ]
    file = written(tmp_path, bytes(changed))
    try:
        found = ours(file)
    except EaiError:
        return
    with contextlib.suppress(pa.ArrowException, OSError):
        assert found == theirs(bytes(changed))


@pytest.mark.parametrize("length", [-1, 1 << 30, (1 << 31) - 1])
def test_the_length_of_a_footer_is_bounded(length: int, tmp_path: Path) -> None:
    target = io.BytesIO()
    with ipc.new_file(target, pa.schema([("x", pa.int64())])) as out:
        out.write_batch(pa.record_batch({"x": [1, 2]}))
    text = target.getvalue()
    with raises_code("arrow-damaged"):
        blocks_of(written(tmp_path, text[:-10] + struct.pack("<i", length) + text[-6:]))
