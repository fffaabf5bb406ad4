"""Read one chunk of a file and parse it; or say which of its rows is bad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.explain import bad_row
from eai_notebook.io.parse import Parsed, Rows, parse
from eai_notebook.io.ranges import Chunk, fingerprint, read

if TYPE_CHECKING:
    from eai_notebook.io.schema import ClickSchema

OnError = Literal["raise", "skip"]

_NEWLINE, _TAB = 10, 9


def load(chunk: Chunk, schema: ClickSchema, on_error: OnError) -> Rows:
    """Return the rows of `chunk`.

    Raises:
        EaiError: A row is bad and `on_error` is ``"raise"``, or the file has changed.
    """
    parsed = load_all(chunk, schema)
    if parsed.bad and on_error == "raise":
        raise bad_row(chunk.path, chunk.begin + parsed.bad[0], schema)
    return parsed.rows


def load_all(chunk: Chunk, schema: ClickSchema) -> Parsed:
    """Return the good rows of `chunk` and where in it the bad ones begin."""
    try:
        with chunk.path.open("rb") as file:
            if fingerprint(file) != chunk.seen:
                raise EaiError(
                    f"{chunk.path} has changed since it was opened",
                    "wait until it is completely written, then open it again",
                )
            text = read(file, chunk.begin, chunk.end)
    except OSError as error:
        raise EaiError(
            f"{chunk.path} cannot be read ({error.strerror or error})",
            "check that it is still there and that every host sees it",
        ) from error
    length = chunk.end - chunk.begin
    ends = text[length - 1] == _NEWLINE
    # The newline that `read` put after an unfinished last line lets it be parsed.
    parsed = parse(text, length if ends else length + 1, schema, chunk.lines)
    if ends or text[length - 1] != _TAB:
        return parsed
    # A whole row whose last value is missing looks just like one cut off there: do not train
    # on a guess.
    breaks = np.flatnonzero(text[:length] == _NEWLINE)
    begin = int(breaks[-1]) + 1 if len(breaks) else 0
    if begin in parsed.bad:
        return parsed
    rows = parsed.rows
    kept = Rows(rows.numbers[:-1], rows.ids[:-1], rows.labels[:-1])
    return Parsed(kept, (*parsed.bad, begin))
