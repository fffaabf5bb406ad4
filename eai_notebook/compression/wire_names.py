"""The number formats that gradients can travel in: offered by the kernel, used by the ranks."""

from __future__ import annotations

from typing import Final

WIRES: Final = ("fp32", "fp16", "bf16", "int8", "auto")
