"""Read Horovod's reports of tensors that some ranks have sent and others have not.

A rank inside a compiled step cannot be seen from outside, but Horovod knows which tensors it
waits for. It writes that to the stderr of the process that coordinates the ring, and nowhere
else. So stderr is read here, on its way to the notebook: reports are passed on, and everything
else continues unchanged.
"""

from __future__ import annotations

import os
import re
import select
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.collective.backend import Missing

_BEGINS: Final = "stall_inspector.cc"
_LIST: Final = re.compile(r"^(\d+): \[(.*)\]\s*$")
_HEAD: Final = "Missing ranks:"
_COMPLETE_S: Final = 0.3
"""A report has no end; when nothing more has come for so long, it is complete."""
_STDERR: Final = 2


class ReportReader:
    """Reads stderr in pieces; returns what is no report, and passes reports on.

    Args:
        report: Called with the tensors that each rank of the ring has not sent.
    """

    def __init__(self, report: Callable[[Missing], None]) -> None:
        self._report = report
        self._line = ""
        self._missing: dict[int, tuple[str, ...]] | None = None

    def feed(self, text: str) -> str:
        """Read a piece of stderr and return what of it is to be shown.

        Examples:
            >>> ReportReader(print).feed("no report")
            'no report'
        """
        *lines, self._line = (self._line + text).split("\n")
        shown = [line + "\n" for line in lines if not self._belongs(line)]
        if self._missing is None and not self._line.startswith("["):
            shown.append(self._line)  # a line that does not begin as a report need not wait
            self._line = ""
        return "".join(shown)

    def pause(self) -> str:
        """Note that nothing came for a while; return what was kept back."""
        self._send()
        kept, self._line = self._line, ""
        return kept

    @property
    def waits(self) -> bool:
        """Whether something is kept back."""
        return bool(self._line) or self._missing is not None

    def _belongs(self, line: str) -> bool:
        """Return whether `line` belongs to a report."""
        if _BEGINS in line:
            self._send()
            self._missing = {}
            return True
        if self._missing is None:
            return False
        found = _LIST.match(line)
        if found:
            tensors = [each.strip() for each in found[2].split(",")]
            self._missing[int(found[1])] = tuple(dict.fromkeys(tensors))
            return True
        if line.startswith(_HEAD):
            return True
        self._send()
        return False

    def _send(self) -> None:
        missing, self._missing = self._missing, None
        if missing:
            self._report(missing)


def install(report: Callable[[Missing], None]) -> threading.Thread:
    """Read this process's stderr from now on, on a thread of its own."""
    onwards = os.dup(_STDERR)
    source, sink = os.pipe()
    os.dup2(sink, _STDERR)
    os.close(sink)

    def read() -> None:
        reader = ReportReader(report)
        while True:
            patience = _COMPLETE_S if reader.waits else None
            if not select.select([source], [], [], patience)[0]:
                _write(onwards, reader.pause())
                continue
            piece = os.read(source, 65536)
            if not piece:
                return
            try:
                _write(onwards, reader.feed(piece.decode(errors="surrogateescape")))
            except Exception:  # noqa: BLE001 -- what was written must arrive, whatever it is
                reader = ReportReader(report)
                os.write(onwards, piece)

    thread = threading.Thread(target=read, name="eai-stall-reports", daemon=True)
    thread.start()
    return thread


def _write(onwards: int, text: str) -> None:
    content = text.encode(errors="surrogateescape")
    while content:
        content = content[os.write(onwards, content) :]
