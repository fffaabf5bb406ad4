"""Bounds on the memory that a file asks for: what it says of its sizes may be untrue."""

from __future__ import annotations

from typing import Final

import psutil

from eai_notebook.errors import EaiError

_ALWAYS: Final = 256 << 20
"""Bytes that are never worth a look at how much memory is free."""


def check_memory(what: str, size: int) -> None:
    """Refuse what cannot be held, before memory is asked for: the system would end the process.

    Args:
        what: File and place, for the error.
        size: Bytes that are needed at once.

    Raises:
        EaiError: That is more than is free.

    Examples:
        >>> check_memory("a.parquet row group 0", 1 << 20)
    """
    if size > _ALWAYS and size > (free := int(psutil.virtual_memory().available)):
        raise EaiError(
            f"{what} needs {size / 1e9:,.1f} GB of memory at once, {free / 1e9:,.1f} GB are free",
            "write it in smaller pieces (row groups, record batches), or copy it again if it "
            "should be small",
            code="memory-too-small",
        )
