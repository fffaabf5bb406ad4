"""Horovod's own reports of tensors that some ranks have sent and others have not.

A rank inside a compiled step cannot be seen from outside, but Horovod knows which tensors it
waits for. It writes that to the stderr of the process that coordinates the ring, and nowhere
else. So that is read here, on its way to the notebook: reports become messages, and everything
else goes on as it came.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from typing import Final

from eai_notebook.collective.membership import members
from eai_notebook.collective.tensor_names import describe
from eai_notebook.telemetry import messages

_BEGINS: Final = "stall_inspector.cc"
_LIST: Final = re.compile(r"^(\d+): \[(.*)\]\s*$")
_HEAD: Final = "Missing ranks:"
_COMPLETE_S: Final = 0.3
"""A report has no end; when nothing more has come for so long, it was all."""
_STDERR: Final = 2


_latest: tuple[float, messages.TensorsMissing] | None = None


def note(report: messages.TensorsMissing) -> None:
    """Keep `report`, and send it with the running cell's output, if a cell runs here."""
    global _latest
    _latest = time.monotonic(), report
    messages.emit(report)


def latest() -> tuple[float, messages.TensorsMissing] | None:
    """Return the last report with its age in seconds: also that which came after the cell."""
    return None if _latest is None else (time.monotonic() - _latest[0], _latest[1])


class ReportReader:
    """Takes stderr in pieces; gives back what is no report, and sends the reports."""

    def __init__(self) -> None:
        self._line = ""
        self._missing: dict[int, tuple[str, ...]] | None = None

    def feed(self, text: str) -> str:
        """Take a piece of stderr and return what of it is to be shown.

        Examples:
            >>> ReportReader().feed("no report")
            'no report'
        """
        *lines, self._line = (self._line + text).split("\n")
        shown = [line + "\n" for line in lines if not self._takes(line)]
        if self._missing is None and not self._line.startswith("["):
            shown.append(self._line)  # what does not begin as a report does need not wait
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

    def _takes(self, line: str) -> bool:
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
            self._missing[int(found[1])] = tuple(dict.fromkeys(map(describe, tensors)))
            return True
        if line.startswith(_HEAD):
            return True
        self._send()
        return False

    def _send(self) -> None:
        missing, self._missing = self._missing, None
        if missing:
            ring = members()
            named = {ring[r]: tensors for r, tensors in missing.items() if r < len(ring)}
            note(messages.TensorsMissing(ring, named))


def install() -> threading.Thread:
    """Read this process's stderr from now on, on a thread of its own."""
    onwards = os.dup(_STDERR)
    source, sink = os.pipe()
    os.dup2(sink, _STDERR)
    os.close(sink)

    def read() -> None:
        reader = ReportReader()
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
                reader = ReportReader()
                os.write(onwards, piece)

    thread = threading.Thread(target=read, name="eai-stall-reports", daemon=True)
    thread.start()
    return thread


def _write(onwards: int, text: str) -> None:
    content = text.encode(errors="surrogateescape")
    while content:
        content = content[os.write(onwards, content) :]
