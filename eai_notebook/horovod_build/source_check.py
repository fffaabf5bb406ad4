"""Check that a source file of Horovod's is the one that our changes to it were written for.

The compiler wrapper runs this file by itself before it compiles a file that it changes: macros
that fit one version of a file may silently change another into something else.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

MARK: Final = "eai-source-unknown:"
"""The first word of the line that says which file it is; `wheel_build` looks for it."""

SHA256: Final = {
    "common/global_state.h": "79c2ea3fc608441191b8e648f5e96f6b190df714e634d0e209904cf0349f7609",
    "common/mpi/mpi_context.cc": "0bcdce25f2d29b4d3432367ed32b738996bc8f39bdfa17348106fe7e0182ce01",
    "common/mpi/mpi_controller.cc": "fd1163337cf49315277cf6ff51bb3abd17327eac3dcb8ea643ac3c36ff1a47c7",
    "common/operations.cc": "0131aebee083cbd79e5a1c8bedd0f644faf5dd45df4e91bcb765ae46c436baf4",
    "common/ops/mpi_operations.cc": "6bea97cba3fdd2054c923a08b01a78bad0e1fbbdcdb8c2277c89cb69d85b506a",
    "common/tensor_queue.h": "d72df22f16d53983e7af70a5650bebbf271f020744f08bd38a2ad9a7e7e4e366",
    "common/timeline.cc": "00fd3e4125bdc92e80e59a6e3b1a3227fd53b6f82edd87a93c21141d01c88e74",
    "tensorflow/xla_mpi_ops.cc": "caab9e87c58b98a87be97c44b9e897133aecb6144c873afab4fba13ce835c193",
}
"""Of Horovod 0.28.1, by the path below its folder ``horovod``."""

INCLUDED: Final = {"common/operations.cc": ("common/global_state.h", "common/tensor_queue.h")}
"""Headers of Horovod's on whose members a change of a file relies."""


def unknown(source: Path) -> list[str]:
    """Return which of `source` and the headers it relies on are not the ones known here.

    Examples:
        >>> unknown(Path("/elsewhere/horovod/common/timeline.cc"))
        ['common/timeline.cc']
    """
    root, name = _split(source)
    names = (name, *INCLUDED.get(name, ()))
    return [each for each in names if _sha256(root / each) != SHA256.get(each, "")]


def _split(source: Path) -> tuple[Path, str]:
    """Return Horovod's own folder, and the path of `source` below it."""
    parts = source.parts
    if "horovod" not in parts:
        return source.parent, source.name
    first = len(parts) - parts[::-1].index("horovod")
    return Path(*parts[:first]), "/".join(parts[first:])


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


if __name__ == "__main__":
    found = unknown(Path(sys.argv[1]))
    if found:
        sys.stderr.write(f"{MARK} {' '.join(found)}\n")
        sys.exit(1)
