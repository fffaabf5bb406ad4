"""Keras's own saving on several ranks: one file, from rank 0, whole.

``model.save`` in a program that all ranks run would have them write one file at the same
time. Here rank 0 writes it, under another name that is then changed, and the others wait until
it is there. It is no exchange: a program may as well save on one rank alone.

How a rank knows that rank 0 saves the same: rank 0 announces what it begins to write, by path
and by a checksum of the trainable weights, which are equal on all ranks.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.collective import notices
from eai_notebook.errors import EaiError
from eai_notebook.train.row_wise.row_table import as_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGINS_S: Final = 5.0
"""How long a rank waits for rank 0 to begin writing the same, before it writes by itself."""
FOLLOWS_S: Final = 1.0
"""The same for a rank that would not write in any case."""
LONGEST_S: Final = 1800.0
"""How long a rank waits for rank 0 to be done with a file that it has begun."""
_LOOK_S: Final = 0.01
_SUFFIXES: Final = (".weights.h5", ".weights.json", ".keras", ".h5", ".hdf5")
_busy = threading.local()


def install() -> None:
    """Have Keras's functions that save a model write once where there are several ranks."""
    if getattr(keras.Model, "_eai_saves_once", False):
        return
    keras.Model.save = _once(keras.Model.save)
    keras.Model.save_weights = _once(keras.Model.save_weights)
    keras.Model.export = _once(_with_plain_tables(keras.Model.export), quiet=True)
    for module in (keras.saving, keras.models):
        for name in ("save_model", "save_weights"):
            if hasattr(module, name):
                setattr(module, name, _once(getattr(module, name)))
    backup = keras.callbacks.BackupAndRestore
    backup._save_model = _backup(backup._save_model)  # noqa: SLF001 -- it writes more than weights
    backup.on_train_end = _end_backup(backup.on_train_end)
    checkpoint = keras.callbacks.ModelCheckpoint
    checkpoint._save_model = _follow(checkpoint._save_model)  # noqa: SLF001 -- what it decides
    keras.Model._eai_saves_once = True  # noqa: SLF001


def _once(save: Callable[..., Any], *, quiet: bool = False) -> Callable[..., Any]:
    """Return `save`, which takes a model and a path, as one that writes once and whole."""

    @functools.wraps(save)
    def once(model: Any, filepath: Any, *arguments: Any, **settings: Any) -> Any:
        kept = settings.get("overwrite", arguments[0] if arguments else True) is False
        target = _target(filepath, settings, overwrite=not kept)
        if target is None or collective.size() == 1 or getattr(_busy, "saving", False):
            return save(model, filepath, *arguments, **settings)

        def write() -> Any:
            with _replacing(target, quiet=quiet) as unfinished:
                return save(model, unfinished, *arguments, **settings)

        _busy.saving = True
        try:
            return _first(write, model, target)
        finally:
            _busy.saving = False

    return once


def _with_plain_tables(export: Callable[..., Any]) -> Callable[..., Any]:
    """Return `export` for models with tables that are updated by rows."""

    @functools.wraps(export)
    def plain(model: Any, *arguments: Any, **settings: Any) -> Any:
        with as_plain(model.variables):
            return export(model, *arguments, **settings)

    return plain


def _target(filepath: Any, settings: dict[str, Any], *, overwrite: bool) -> Path | None:
    """Return the file to write; None where Keras has to decide, or it is several."""
    if not isinstance(filepath, str | os.PathLike) or "://" in str(filepath):
        return None
    if settings.get("max_shard_size") is not None or settings.get("zipped") is False:
        return None
    # Made absolute, so that ranks of one host mean the same file by the same name.
    target = Path(os.path.abspath(Path(filepath)))  # noqa: PTH100 -- links stay links
    return None if not overwrite and target.exists() else target


def _first(write: Callable[[], Any], model: Any, target: Path) -> Any:
    """Write on rank 0; elsewhere wait for it, or write where rank 0 does not."""
    key = _key(model, target)
    if collective.rank() != 0:
        follows = getattr(_busy, "follows", False)
        came = _comes(key, target, FOLLOWS_S if follows else BEGINS_S)
        return None if came or follows else write()
    notices.announce({"saving": key})
    problem: str | None = "it was stopped"
    try:
        result = write()
        problem = None
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise
    finally:
        notices.announce({"saved": key, "problem": problem, "host": socket.gethostname()})
    return result


def _key(model: Any, target: Path) -> str:
    """Return what two ranks have in common that save the same: the file, and the weights."""
    return f"{target}:{_checksum(model)}"


def _comes(key: str, target: Path, begins: float = BEGINS_S) -> bool:
    """Wait until rank 0 has written `target`; return False if it does not.

    Raises:
        EaiError: Rank 0 could not write it.
    """
    began = time.monotonic()
    while True:
        reports = [each for each in notices.heard() if key in each.values()]
        last = reports[-1] if reports else None
        waited = time.monotonic() - began
        if last is not None and "saved" in last:
            if last["problem"] is not None:
                raise EaiError(
                    f"rank 0 could not write {target} ({last['problem']})",
                    "make room, or choose another folder",
                    code="write-failed",
                )
            # On its own host rank 0 may have moved it since; on another it may never be there.
            return last["host"] == socket.gethostname() or target.exists()
        if waited > (begins if last is None else LONGEST_S):
            return False
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def _replacing(target: Path, *, quiet: bool) -> Iterator[str]:
    """Give the name to write to, and give what was written its own name at the end."""
    suffix = next((each for each in _SUFFIXES if target.name.endswith(each)), target.suffix)
    stem = target.name.removesuffix(suffix)
    unfinished = target.with_name(f".{stem}.{os.getpid()}-part{suffix}")
    said = io.StringIO()
    try:
        # Keras says where it has exported to.
        with contextlib.redirect_stdout(said) if quiet else contextlib.nullcontext():
            yield str(unfinished)
        if unfinished.is_dir() and target.is_dir():
            shutil.rmtree(target)
        if unfinished.exists():
            unfinished.replace(target)
    finally:
        with contextlib.suppress(OSError):
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink()
        if words := said.getvalue():
            say(words.replace(str(unfinished), str(target)).removesuffix("\n"))


def _checksum(model: Any) -> int:
    found = 0
    for variable in getattr(model, "trainable_variables", []):
        values = np.ascontiguousarray(np.asarray(variable)).reshape(-1)
        found = zlib.crc32(values.view(np.uint8).data, found)
    return found


def _follow(save: Callable[..., None]) -> Callable[..., None]:
    """Return what saves on rank 0 only: others may see another best epoch in their own rows."""

    @functools.wraps(save)
    def once(self: Any, *arguments: Any, **settings: Any) -> None:
        _busy.follows = collective.rank() != 0
        try:
            save(self, *arguments, **settings)
        finally:
            _busy.follows = False

    return once


def _backup(save: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(save)
    def once(self: Any) -> None:
        if collective.rank() == 0:
            save(self)
        else:
            target = Path(os.path.abspath(self._weights_path))  # noqa: PTH100 -- as above
            _comes(_key(self.model, target), target)

    return once


def _end_backup(end: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(end)
    def once(self: Any, logs: Any = None) -> None:
        if collective.rank() == 0:
            end(self, logs)
            return
        # Or the next fit would go on from it.
        until = time.monotonic() + BEGINS_S
        folder = Path(self.backup_dir)
        while self.delete_checkpoint and folder.exists() and time.monotonic() < until:
            time.sleep(_LOOK_S)

    return once
