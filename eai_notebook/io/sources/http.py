"""Range requests by HTTP; each response is checked to belong to the file as it was found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.file_entry import FileEntry, changed, shorter

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTIAL: Final = 206
_FAILED: Final = 412  # the file has changed: If-Match does not hold
_MARKS: Final = ("ETag", "Last-Modified")
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RangeReader(HTTPFileSystem):
    """fsspec's client with range requests whose response headers are checked."""

    def read_range(self, file: FileEntry, begin: int, end: int) -> bytes:
        """Return the bytes of a file from `begin` to `end`.

        Raises:
            EaiError: The file has changed, or the server does not support ranges.
        """
        data: bytes = sync(self.loop, self._read_range, file, begin, end)
        return data

    async def _read_range(self, file: FileEntry, begin: int, end: int) -> bytes:
        headers = {"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        # (The protocol defines that a weak tag never matches.)
        if file.mark.startswith('"'):
            headers["If-Match"] = file.mark
        session = await self.set_session()
        options = {**self.kwargs, "headers": {**self.kwargs.get("headers", {}), **headers}}
        async with session.get(self.encode_url(file.url), **options) as response:
            if response.status == _FAILED:
                raise changed(file)
            self._raise_not_found_for_status(response, file.url)
            check_response(file, begin, end, response.status, response.headers)
            data: bytes = await response.read()
        return data


def check_response(
    file: FileEntry, begin: int, end: int, status: int, headers: Mapping[str, Any]
) -> None:
    """Check that a response belongs to the requested range of the file.

    Raises:
        EaiError: The file has changed, or the server has sent another range.
    """
    for name in _MARKS:
        mark = headers.get(name)
        # (The form of `file.mark` shows whether it is an entity tag or a time.)
        if mark and file.mark and _is_tag(file.mark) == (name == "ETag") and mark != file.mark:
            raise changed(file)
    found = _RANGE.match(headers.get("Content-Range", ""))
    whole = begin == 0 and end == file.size
    if status != _PARTIAL and not whole:
        raise EaiError(
            f"the server of {file.url} ignores range requests: it sends the whole file instead of "
            f"bytes {begin}-{end}",
            "copy the file to a storage that supports range requests",
            code="server-without-ranges",
        )
    if found is None:
        return
    if found[3] != "*" and int(found[3]) != file.size:
        raise shorter(file) if int(found[3]) < file.size else changed(file)
    if int(found[1]) != begin:
        raise EaiError(
            f"the server of {file.url} sends bytes {found[1]}-{int(found[2]) + 1} instead of bytes "
            f"{begin}-{end}",
            "copy the file to a storage that supports range requests",
            code="server-without-ranges",
        )


def _is_tag(mark: str) -> bool:
    return mark.startswith(('"', 'W/"'))
