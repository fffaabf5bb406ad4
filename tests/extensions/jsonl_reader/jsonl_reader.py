"""`jsonl`: read JSON lines with a number ``x`` and a number ``label`` each.

An example of a file format in a package of its own. A part is a whole file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.open_files import open_files
from eai_notebook.io.part import LABEL, Field, Loaded, Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from eai_notebook.formats.open_files import Options
    from eai_notebook.io.pipeline.dataset import InputData
    from eai_notebook.io.sources.file import File
    from eai_notebook.io.sources.find import Pattern

SPEC = {"x": Field("float32", (1,)), LABEL: Field("float32", (1,))}


def jsonl(pattern: Pattern, batch_size: int, **options: Unpack[Options]) -> InputData:
    """Open files of JSON lines as this rank's batches; whole files are shared out."""

    def describe(files: list[File], rank: int, size: int) -> Source:
        mine = files[rank::size]
        parts = [JsonlPart(file, sum(1 for _ in file.open())) for file in mine]
        return Source("JSON lines", parts, SPEC, len(files), sum(file.size for file in files))

    return open_files(pattern, frozenset({".jsonl"}), batch_size, describe, options)


@dataclass(frozen=True)
class JsonlPart:
    """One file: a `Part`."""

    file: File
    rows: int

    @property
    def name(self) -> str:
        """The file."""
        return str(self.file)

    @property
    def path(self) -> str:
        """The file."""
        return str(self.file)

    def fetch(self) -> bytes:
        """Read the file."""
        with self.file.open() as stream:
            return bytes(stream.read())

    def parse(self, fetched: bytes) -> Loaded:
        """Make columns of the lines."""
        rows = [json.loads(line) for line in fetched.splitlines()]
        columns: dict[str, Any] = {
            name: np.array([[row[name]] for row in rows], np.float32) for name in ("x", LABEL)
        }
        return Loaded(columns)

    def fault(self, first_bad: int) -> EaiError:
        """Return the error about a row; `parse` marks none."""
        return EaiError(f"{self.file} row {first_bad + 1} is bad", "repair it", code="row-bad")
