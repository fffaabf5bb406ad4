"""Wire format int4: blocks of 4-bit numbers that share a scale, with int8's error feedback.

A number takes 4.5 bits: 16 bytes of codes and a bfloat16 scale for 32 numbers. Partial sums are
coded again by the rank that adds them, which remembers what that rounds away.
"""

from __future__ import annotations

from typing import ClassVar, Final

from eai_notebook.compression import number_codecs
from eai_notebook.compression.wire_formats.int8 import Int8


class Int4(Int8):
    """A seventh of the bytes. Rows of embeddings have no memory of rounding and travel as int8."""

    name: ClassVar[str] = "int4"
    in_auto: ClassVar[bool] = False
    codec: ClassVar[number_codecs.BlockCodec] = number_codecs.INT4


FORMAT: Final = Int4()
