"""Check the memory that a file needs before it is allocated: sizes in a damaged file may be wrong."""

from __future__ import annotations

from typing import Final

import psutil

from eai_notebook.errors import EaiError

_ALWAYS: Final = 256 << 20
"""Requests up to this many bytes pass without a look at the free memory."""


def check_memory(what: str, size: int) -> None:
    """Raise an error if more memory is needed than is free; otherwise the system may kill the process.

    Args:
        what: File and row group or record batch, for the error.
        size: Bytes that are needed at once.

    Raises:
        EaiError: `size` exceeds the free memory.

    Examples:
        >>> check_memory("a.parquet row group 0", 1 << 20)
    """
    if size > _ALWAYS and size > (free := int(psutil.virtual_memory().available)):
        raise EaiError(
            f"{what} needs {size / 1e9:,.1f} GB of memory at once, {free / 1e9:,.1f} GB are free",
            "write smaller row groups or record batches, or copy the file again if it should be "
            "small",
            code="memory-too-small",
        )
