"""One file for `map_files`: the user's function makes its rows.

Reader processes load this, so it must not bring TensorFlow with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.part import Columns, Field, Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eai_notebook.io.sources.file import File


@dataclass(frozen=True)
class FilePart:
    """What a function makes of a file: a `Part`."""

    file: File
    function: Callable[[File], Columns]
    rows: int = -1
    spec: Mapping[str, Field] | None = None
    """What rows must be, once it is known."""

    @property
    def name(self) -> str:
        """The file."""
        return self.file.url

    @property
    def path(self) -> str:
        """The file."""
        return self.file.url

    def fetch(self) -> None:
        """Nothing: the function reads for itself."""

    def parse(self, fetched: None) -> Loaded:  # noqa: ARG002 - there is nothing
        """Call the function.

        Raises:
            EaiError: What it returns is not rows.
        """
        made: Any = self.function(self.file)
        if not isinstance(made, dict) or not made:
            raise EaiError(
                f"the function returns {type(made).__name__} for {self.file}",
                "return a dictionary of arrays with one row each in the first dimension",
                code="function-result-invalid",
            )
        columns = {name: np.asarray(column) for name, column in made.items()}
        lengths = {name: column.shape[:1] for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            told = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
            raise EaiError(
                f"the function returns columns of different lengths for {self.file}: {told}",
                "give every column as many rows",
                code="function-result-invalid",
            )
        if self.spec is not None and lengths != dict.fromkeys(lengths, (0,)):
            check_alike(self.file, fields_of(columns), self.spec)
        return Loaded(columns)

    def fault(self, first_bad: int) -> EaiError:
        """Return an error; the function leaves out bad rows by itself."""
        return EaiError(
            f"{self.file} row {first_bad} is bad", "mend the file or the function", code="row-bad"
        )


def fields_of(columns: Columns) -> dict[str, Field]:
    """Return what a row of some columns is."""
    return {name: Field(column.dtype, column.shape[1:]) for name, column in columns.items()}


def check_alike(file: File, fields: Mapping[str, Field], spec: Mapping[str, Field]) -> None:
    """Refuse rows of a file that are not like those of the others.

    Raises:
        EaiError: A column is missing, or of another type or shape.
    """
    for name in {**spec, **fields}:
        one, other = fields.get(name), spec.get(name)
        if one != other:
            raise EaiError(
                f"the function returns column {name!r} {_told(one)} for {file}, {_told(other)} "
                "for files before",
                "return the same columns, types and shapes for all files",
                code="files-differ",
            )


def _told(field: Field | None) -> str:
    if field is None:
        return "not at all"
    return f"as {np.dtype(field.dtype)} {list(field.shape)} a row"
