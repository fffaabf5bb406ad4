"""`convert`: write click logs in a format that is faster to read."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.progress import Progress

from eai_notebook.clicklog.click_schema import CRITEO
from eai_notebook.clicklog.columnar_writers import SUFFIX, To, TooWideError, writer_for
from eai_notebook.clicklog.text_part import TextPart
from eai_notebook.errors import EaiError
from eai_notebook.io.pipeline.byte_ranges import Span, cut
from eai_notebook.io.sources.find import find_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eai_notebook.clicklog.click_schema import ClickSchema
    from eai_notebook.io.pipeline.byte_ranges import Chunk
    from eai_notebook.io.pipeline.epoch_plan import OnError
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        folder: The folder of the written files.
        rows: Rows in all files.
        files: Number of files, one for each input file.
        size: Bytes of all files.
        skipped: Number of skipped bad rows, by file; empty unless `on_error` is ``"skip"``.
    """

    folder: Path
    rows: int
    files: int
    size: int
    skipped: dict[str, int]


def convert(
    source: Pattern,
    folder: str | os.PathLike[str],
    *,
    to: To = "parquet",
    schema: ClickSchema = CRITEO,
    on_error: OnError = "raise",
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Converted:
    """Write click logs from delimited text in a format that is faster to read.

    Each input file becomes one file, with the same name and another suffix. The folder appears when
    it is complete. Parquet, Arrow and TFRecord files hold the values of the log, and any schema with
    these columns can read them; ``"binary"`` holds the features, hashed into the buckets of
    `schema`.

    Args:
        source: The logs: a glob, a folder, a file, a list; paths or URLs.
        folder: The target on this host; created if it does not exist.
        to: ``"parquet"``, ``"arrow"``, ``"tfrecord"`` or ``"binary"``.
        schema: The columns.
        on_error: ``"raise"`` at a bad row, or ``"skip"`` and count it.
        overwrite: Replace a folder that holds only an earlier conversion.
        progress: Called with the finished share, 0 to 1, and a text; None for a progress bar in a
            terminal or a notebook.

    Raises:
        EaiError: A file or a row is bad, or the folder is not empty.
    """
    if to not in get_args(To):
        raise EaiError(
            f"to={to!r} is not a format",
            f"choose from {', '.join(get_args(To))}",
            code="option-invalid",
        )
    target = Path(folder)
    _check_target(target, SUFFIX[to], overwrite=overwrite)
    files = find_files(source)
    names = _names(files, SUFFIX[to])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with ExitStack() as stack:
            report = progress or stack.enter_context(_progress_bar(f"converting to {to}"))
            state = _Progress(sum(file.size for file in files), report)
            for file, name in zip(files, names, strict=True):
                _convert_file(file, temporary / name, to, schema, on_error, state)
        size = sum(path.stat().st_size for path in temporary.iterdir())
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise EaiError(
            f"{target} cannot be written ({error.strerror or error})",
            "choose another folder",
            code="folder-not-writable",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Converted(target, state.rows, len(files), size, state.skipped)


class _Progress:
    """The progress of a conversion."""

    def __init__(self, size: int, report: Callable[[float, str], None]) -> None:
        self._size = max(size, 1)
        self._report = report
        self._read = 0
        self.rows = 0
        self.skipped: dict[str, int] = {}

    def report(self, read: int, rows: int) -> None:
        """Report how much of the current file was read: its bytes and rows."""
        self._report((self._read + read) / self._size, f"{self.rows + rows:,} rows")

    def add(self, rows: int, read: int) -> None:
        """Add a finished file."""
        self.rows += rows
        self._read += read
        self._report(self._read / self._size, f"{self.rows:,} rows")


def _convert_file(
    file: File, path: Path, to: To, schema: ClickSchema, on_error: OnError, state: _Progress
) -> None:
    chunks = cut(Span(file, 0, file.size))
    try:
        rows, skipped = _write(chunks, path, to, schema, on_error, state, wide=False)
    except TooWideError:
        rows, skipped = _write(chunks, path, to, schema, on_error, state, wide=True)
    if skipped:
        state.skipped[str(file)] = skipped
    state.add(rows, file.size)


def _write(
    chunks: Sequence[Chunk],
    path: Path,
    to: To,
    schema: ClickSchema,
    on_error: OnError,
    state: _Progress,
    *,
    wide: bool,
) -> tuple[int, int]:
    writer = writer_for(to, path, schema, wide=wide)
    rows = skipped = 0
    with closing(writer):
        for chunk in chunks:
            part = TextPart(chunk, schema)
            parsed = part.parsed(part.fetch(), raw=True)
            if parsed.bad and on_error == "raise":
                raise part.fault(parsed.bad[0])
            writer.write(parsed)
            rows += len(parsed.rows)
            skipped += len(parsed.bad)
            state.report(chunk.end, rows)
    return rows, skipped


def _names(files: Sequence[File], suffix: str) -> list[str]:
    names = [PurePosixPath(file.url.split("?")[0]).name for file in files]
    names = [name.removesuffix(PurePosixPath(name).suffix) + suffix for name in names]
    if len(set(names)) < len(names):
        names = [f"{number:05d}-{name}" for number, name in enumerate(names)]
    return names


def _check_target(target: Path, suffix: str, *, overwrite: bool) -> None:
    """Check that the target folder may be written.

    Raises:
        EaiError: It is a file, or holds something that must not be replaced.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise EaiError(f"{target} is a file", "name a folder", code="folder-not-empty")
    inside = list(target.iterdir())
    if not inside:
        target.rmdir()
        return
    if not overwrite:
        raise EaiError(
            f"{target} is not empty",
            "name another folder, or pass overwrite=True",
            code="folder-not-empty",
        )
    others = [path.name for path in inside if path.suffix not in SUFFIX.values()]
    if others:
        raise EaiError(
            f"{target} holds {others[0]}, which is not from a conversion to {suffix}",
            "name another folder, or delete this one yourself",
            code="folder-not-empty",
        )


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar in a terminal or a notebook."""
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield lambda _done, _what: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(done: float, what: str) -> None:
            bar.update(task, completed=done, description=f"{title}: {what}")

        yield report


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
