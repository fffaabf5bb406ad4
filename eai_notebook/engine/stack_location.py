"""Where this rank's main thread is, read off its stack."""

from __future__ import annotations

import linecache
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eai_notebook import collective
from eai_notebook.telemetry.messages import StackLocation, steps_taken

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

awaited: asyncio.Task[Any] | None = None
"""The task of the cell that runs, if it has a top-level ``await``."""

_EXCHANGES = "eai_notebook.collective.ops"
_TENSORFLOW = "tensorflow.python.eager."
_EPOCH_END = ("eai_notebook.train._callbacks", ("on_epoch_end", "on_test_begin"))
"""Where the ranks meet when an epoch's steps are over."""


def current_location(rank: int, user_ns: dict[str, Any]) -> StackLocation | None:
    """Return where the main thread is in the user's cell, or None if it is in none.

    The deepest frame whose globals are the user's own variables is the line of the cell
    that is being run, also when a library has called back into it. A cell that awaits
    something is in no frame of the main thread; it is where its coroutines are suspended.
    """
    frames = _inside_out(sys._current_frames().get(threading.main_thread().ident or 0))  # noqa: SLF001
    own = [frame for frame in frames if frame.f_globals is user_ns]
    if not own and awaited is not None:
        frames = _suspended(awaited.get_coro())
        own = [frame for frame in frames if frame.f_globals is user_ns]
    if not own:
        return None
    innermost, cell = frames[0], own[0]
    exchanges = [frame for frame in frames if _module(frame) == _EXCHANGES]
    return StackLocation(
        rank=rank,
        line=cell.f_lineno,
        code=_line(cell),
        inside=_name(innermost),
        exchange=_exchange(exchanges[-1], frames) if exchanges else None,
        compiled=_module(innermost).startswith(_TENSORFLOW),
        steps=steps_taken(),
        path=tuple((frame.f_lineno, _line(frame)) for frame in reversed(own)),
        cell=Path(own[-1].f_code.co_filename).name,
        exchanges=collective.exchanges_begun(),
    )


def _exchange(entry: FrameType, frames: list[FrameType]) -> str:
    """Return the exchange in words: its name, and whether it is the one after an epoch's steps."""
    module, names = _EPOCH_END
    ends = any(_module(one) == module and one.f_code.co_name in names for one in frames)
    return f"{entry.f_code.co_name}{' at the end of an epoch' if ends else ''}"


def is_inside(frame: FrameType | None, user_ns: dict[str, Any]) -> bool:
    """Return whether `frame` is one of the user's code, or was called from there."""
    return any(one.f_globals is user_ns for one in _inside_out(frame))


def _suspended(coroutine: Any) -> list[FrameType]:
    """Return the frames of a coroutine that waits, and of those it waits for, innermost first."""
    frames = []
    while coroutine is not None:
        kind = next((k for k in ("cr", "gi", "ag") if hasattr(coroutine, f"{k}_frame")), None)
        if kind is None:
            break
        if (frame := getattr(coroutine, f"{kind}_frame")) is not None:
            frames.append(frame)
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return frames[::-1]


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def _inside_out(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _name(frame: FrameType) -> str:
    return f"{_module(frame)}.{frame.f_code.co_name}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
