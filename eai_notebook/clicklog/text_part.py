"""`TextPart`: a byte range of a click log in text form, the unit that readers load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.clicklog.row_errors import bad_row
from eai_notebook.clicklog.text_parser import parse
from eai_notebook.io.part import LABEL, Field, Loaded
from eai_notebook.io.pipeline.byte_ranges import Chunk, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.clicklog.click_columns import ClickColumns
    from eai_notebook.clicklog.text_parser import Parsed
    from eai_notebook.errors import EaiError

_NEWLINE, _TAB = 10, 9
NUMBERS: Final = "numbers"
IDS: Final = "ids"


def spec_of(schema: ClickColumns) -> dict[str, Field]:
    """Return type and shape of a click log's row, by feature.

    The label has shape ``[1]``: beside a model's ``[rows, 1]`` output, a label ``[rows]`` would
    broadcast to ``[rows, rows]``.
    """
    return {
        NUMBERS: Field(np.float32, (len(schema.integers),)),
        IDS: Field(np.int32, (len(schema.categorical),)),
        LABEL: Field(np.float32, (1,)),
    }


@dataclass(frozen=True)
class TextPart:
    """Whole rows of a delimited file: a `Part`."""

    chunk: Chunk
    schema: ClickColumns

    @property
    def name(self) -> str:
        """File and bytes."""
        return f"{self.chunk.file}, bytes {self.chunk.begin}-{self.chunk.end}"

    @property
    def path(self) -> str:
        """The file."""
        return self.chunk.file.url

    @property
    def rows(self) -> int:
        """The number of rows, including bad ones."""
        return self.chunk.lines

    def fetch(self) -> NDArray[np.uint8]:
        """Return the bytes, padded for the parser, in a buffer that this thread's next fetch reuses.

        Raises:
            EaiError: The file was removed or has changed.
        """
        return read(self.chunk.file, self.chunk.begin, self.chunk.end)

    def parse(self, fetched: NDArray[np.uint8]) -> Loaded:
        """Return the good rows, the number of bad ones and the offset of the first bad one."""
        parsed = self.parsed(fetched)
        rows, bad = parsed.rows, parsed.bad
        columns = {NUMBERS: rows.numbers, IDS: rows.ids, LABEL: rows.labels}
        return Loaded(columns, len(bad), bad[0] if bad else 0)

    def parsed(self, fetched: NDArray[np.uint8], *, raw: bool = False) -> Parsed:
        """Return the good rows, with raw values if `raw`, and the offset of each bad one."""
        length = self.chunk.end - self.chunk.begin
        ends = fetched[length - 1] == _NEWLINE
        # `read` has appended a newline, so an unfinished last line can be parsed.
        end = length if ends else length + 1
        parsed = parse(fetched, end, self.schema, self.chunk.lines, raw=raw)
        if not ends and fetched[length - 1] == _TAB:
            # A complete row whose last value is missing looks like a row that is cut off there;
            # count it as bad.
            breaks = np.flatnonzero(fetched[:length] == _NEWLINE)
            begin = int(breaks[-1]) + 1 if len(breaks) else 0
            if begin not in parsed.bad:
                return parsed.without_last(begin)
        return parsed

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about the row at an offset in this part."""
        return bad_row(self.chunk.file, self.chunk.begin + first_bad, self.schema)
