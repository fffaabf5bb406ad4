"""Describe the fault of a bad row of a click log.

The compiled parser returns only the offset of a bad row. This is a second, slow parser in Python,
which names the fault.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from eai_notebook.clicklog.click_columns import ClickColumns
    from eai_notebook.io.sources.file import File

_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_MAX_INT64 = (1 << 63) - 1
_MAX_DIGITS = 19
_NAME = re.compile(r"[A-Za-z_]")
_HEX = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)
_LONGEST = 1 << 20  # bytes of a line that are looked at; no row is near as long
_SHOWN = 24  # characters of a bad value that are shown
_REMEDY = 'repair or remove the row, or skip and count bad rows with on_error="skip"'


def row_fault(  # noqa: PLR0911 - one return for each fault
    row: str, schema: ClickColumns, *, ends: bool = True
) -> str:
    """Return what is wrong with a row, to follow "row 7" in an error.

    Args:
        row: The line, without its newline.
        schema: The columns.
        ends: Whether the line had a newline; the last line of a truncated file has none.
    """
    fields = row.split("\t")
    if not ends:
        return f"is cut off in field {len(fields)} of {schema.fields}"
    if len(fields) != schema.fields:
        return f"has {len(fields)} fields, {schema.name} rows have {schema.fields}"
    if fields[0] not in {"0", "1"}:
        return f"has label {_short(fields[0])}, which is neither 0 nor 1"
    names = (*schema.integers, *schema.categorical)
    for number, (name, value) in enumerate(zip(names, fields[1:], strict=True), start=1):
        if not value:
            continue
        if number <= len(schema.integers):
            if not _INTEGER.fullmatch(value):
                return f"has {_short(value)} in {name}, which is not an integer"
            if len(value.lstrip("-")) > _MAX_DIGITS or abs(int(value)) > _MAX_INT64:
                return f"has {_short(value)} in {name}, which is not a 64-bit integer"
        elif not _HEX.fullmatch(value):
            return f"has {_short(value)} in {name}, which is not eight hexadecimal digits"
    return "cannot be read"


def bad_row(file: File, begin: int, schema: ClickColumns) -> EaiError:
    """Return the error for the row of `file` that begins at byte `begin`."""
    number = 1
    with file.open() as stream:
        left = begin
        while left > 0:
            block = stream.read(min(left, 1 << 20))
            if not block:
                break
            number += block.count(b"\n")
            left -= len(block)
        line = stream.readline(_LONGEST)
    ends = line.endswith(b"\n")
    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return EaiError(
            f"{file} row 1 is UTF-16 text", "write the file as UTF-8 or ASCII", code="text-not-utf8"
        )
    if b"\r" in line.rstrip(b"\r\n"):
        return EaiError(
            f"{file} row {number} holds carriage returns: lines must end with a newline",
            "convert the file with `tr '\\r' '\\n'`",
            code="text-newlines",
        )
    if len(line) == _LONGEST and not ends:
        return EaiError(
            f"{file} row {number} is longer than {_LONGEST >> 10} KiB",
            f"name the right file: {schema.name} rows are text of {schema.fields} fields",
            code="row-bad",
        )
    text = line.rstrip(b"\r\n").decode(errors="replace")
    fields = text.split("\t")
    if number == 1 and ends and _NAME.match(fields[0]) and any(map(_NAME.match, fields[1:2])):
        return EaiError(
            f"{file} row 1 looks like a header: it begins with {_short(fields[0])}",
            "remove it, for instance with `tail -n +2`: the schema names the columns",
            code="text-header",
        )
    fault = row_fault(text, schema, ends=ends)
    remedy = _REMEDY if ends else f"copy the file again, or {_REMEDY}"
    return EaiError(f"{file} row {number} {fault}", remedy, code="row-bad")


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
