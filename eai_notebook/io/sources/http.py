"""Ranges of files behind HTTP, each checked to be of the file that was found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file import File, changed, shorter

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTIAL: Final = 206
_FAILED: Final = 412  # what If-Match asks for is no longer so
_MARKS: Final = ("ETag", "Last-Modified")
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RangeReader(HTTPFileSystem):
    """fsspec's client, which also reads ranges and looks at what the server says of each."""

    def read_range(self, file: File, begin: int, end: int) -> bytes:
        """Return some bytes of a file.

        Raises:
            EaiError: The file has been replaced, or the server serves no ranges.
        """
        found: bytes = sync(self.loop, self._read_range, file, begin, end)
        return found

    async def _read_range(self, file: File, begin: int, end: int) -> bytes:
        headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        # (A weak tag never matches, as the protocol has it.)
        if file.mark.startswith('"'):
            headers["If-Match"] = file.mark
        session = await self.set_session()
        options = {**self.kwargs, "headers": {**self.kwargs.get("headers", {}), **headers}}
        async with session.get(self.encode_url(file.url), **options) as answer:
            if answer.status == _FAILED:
                raise changed(file)
            self._raise_not_found_for_status(answer, file.url)
            check_answer(file, begin, end, answer.status, answer.headers)
            text: bytes = await answer.read()
        return text


def check_answer(file: File, begin: int, end: int, status: int, headers: Mapping[str, Any]) -> None:
    """Check that an answer is about the range of the file that was asked for.

    Raises:
        EaiError: It is about another file, or another range.
    """
    for name in _MARKS:
        mark = headers.get(name)
        # (Which of the two the file was marked with shows in what it looks like.)
        if mark and file.mark and _is_tag(file.mark) == (name == "ETag") and mark != file.mark:
            raise changed(file)
    found = _RANGE.match(headers.get("Content-Range", ""))
    whole = begin == 0 and end == file.size
    if status != _PARTIAL and not whole:
        raise EaiError(
            f"{file.url}: its server answers a request for bytes {begin}-{end} with the whole file",
            "copy the file to a storage that serves ranges",
            code="server-without-ranges",
        )
    if found is None:
        return
    if found[3] != "*" and int(found[3]) != file.size:
        raise shorter(file) if int(found[3]) < file.size else changed(file)
    if int(found[1]) != begin:
        raise EaiError(
            f"{file.url}: its server answers a request for bytes {begin}-{end} with bytes "
            f"{found[1]}-{int(found[2]) + 1}",
            "copy the file to a storage that serves ranges",
            code="server-without-ranges",
        )


def _is_tag(mark: str) -> bool:
    return mark.startswith(('"', 'W/"'))
