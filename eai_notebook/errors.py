"""`EaiError`: an error that the user can fix, with its remedy and a stable code."""

from __future__ import annotations

from typing import Any


class EaiError(RuntimeError):
    """An error that the user can fix, in one line.

    Attributes:
        what: What went wrong: file, row, rank or host where there is one.
        remedy: What to do next.
        code: The stable name of the kind of error, listed in ``docs/errors.md``; texts may change.

    Examples:
        >>> error = EaiError("no group is running", "start one with `%eai up`", code="group-not-running")
        >>> print(error)
        no group is running: start one with `%eai up`
        >>> error.code
        'group-not-running'
    """

    def __init__(self, what: str, remedy: str, *, code: str = "error") -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all attributes: a plain exception would lose the remedy."""
        return _again, (type(self), self.args), self.__dict__

    def _render_traceback_(self) -> list[str]:
        """Let IPython show one line without a traceback: the user's code is not at fault."""
        return [f"{type(self).__name__} [{self.code}]: {self}"]


def _again(kind: type[EaiError], args: tuple[Any, ...]) -> EaiError:
    """Create an error from its message, whatever the arguments of its class."""
    return kind.__new__(kind, *args)
