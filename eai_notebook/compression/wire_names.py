"""Names of the wire formats, for the kernel and the ranks."""

from __future__ import annotations

from typing import Final

WIRES: Final = ("fp32", "fp16", "bf16", "int8", "auto")
