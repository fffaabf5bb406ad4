"""`EaiError`: the one error a user meets, with its remedy."""

from __future__ import annotations

from typing import Any


class EaiError(RuntimeError):
    """A failure the user can mend, told in one line.

    Attributes:
        what: What went wrong: file, row, rank or host where there is one.
        remedy: What to do next.
        code: A stable name of the kind of error, for programs and tests; the texts may change.

    Examples:
        >>> error = EaiError("no group is running", "start one with `%eai up`", code="no-group")
        >>> print(error, error.code)
        no group is running: start one with `%eai up` no-group
    """

    def __init__(self, what: str, remedy: str, *, code: str = "error") -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole: an exception alone would forget the remedy."""
        return _again, (type(self), self.args), self.__dict__

    def _render_traceback_(self) -> list[str]:
        """Have IPython show the line and not the stack: the user's code is not at fault."""
        return [f"{type(self).__name__}: {self}"]


def _again(kind: type[EaiError], args: tuple[Any, ...]) -> EaiError:
    """Make an error from its message, whatever arguments its own class is made with."""
    return kind.__new__(kind, *args)
