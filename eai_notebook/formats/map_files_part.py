"""A part of `map_files`: one file, whose rows the user's function returns.

Reader processes import this module, so it must not import TensorFlow.
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
    """The rows that a function returns for a file: a `Part`."""

    file: File
    function: Callable[[File], Columns]
    rows: int = -1
    spec: Mapping[str, Field] | None = None
    """The fields that rows must have; None until they are known."""

    @property
    def name(self) -> str:
        """The file."""
        return self.file.url

    @property
    def path(self) -> str:
        """The file."""
        return self.file.url

    def fetch(self) -> None:
        """Do nothing: the function reads the file."""

    def parse(self, fetched: None) -> Loaded:  # noqa: ARG002 - nothing was fetched
        """Call the function.

        Raises:
            EaiError: It returns something else than columns of equal length.
        """
        returned: Any = self.function(self.file)
        if not isinstance(returned, dict) or not returned:
            raise EaiError(
                f"the function returns {type(returned).__name__} for {self.file}",
                "return a dictionary of arrays with one row each in the first dimension",
                code="function-result-invalid",
            )
        columns = {name: np.asarray(column) for name, column in returned.items()}
        lengths = {name: column.shape[:1] for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
            raise EaiError(
                f"the function returns columns of different lengths for {self.file}: {shapes}",
                "return the same number of rows in every column",
                code="function-result-invalid",
            )
        if self.spec is not None and lengths != dict.fromkeys(lengths, (0,)):
            check_alike(self.file, fields_of(columns), self.spec)
        return Loaded(columns)

    def fault(self, first_bad: int) -> EaiError:
        """Return an error for the protocol `Part`; the function itself decides which rows are bad."""
        return EaiError(
            f"{self.file} row {first_bad} is bad",
            "repair the file or the function",
            code="row-bad",
        )


def fields_of(columns: Columns) -> dict[str, Field]:
    """Return the type and shape of a row in each column."""
    return {name: Field(column.dtype, column.shape[1:]) for name, column in columns.items()}


def check_alike(file: File, fields: Mapping[str, Field], spec: Mapping[str, Field]) -> None:
    """Check that a file's rows have the fields of the other files' rows.

    Raises:
        EaiError: A column is missing, or has another type or shape.
    """
    for name in {**spec, **fields}:
        found, expected = fields.get(name), spec.get(name)
        if found != expected:
            raise EaiError(
                f"the function returns column {name!r} {_described(found)} for {file}, "
                f"{_described(expected)} for other files",
                "return the same columns, types and shapes for all files",
                code="files-differ",
            )


def _described(field: Field | None) -> str:
    if field is None:
        return "not at all"
    return f"as {np.dtype(field.dtype)} {list(field.shape)} a row"
