"""The one error a user meets: what went wrong, and what to do about it."""

from __future__ import annotations


class EaiError(RuntimeError):
    """A failure the user can mend, told in one line.

    ``what`` says what went wrong (file, row, rank or host where there is one) and
    ``remedy`` what to do next.

    Example:
        >>> print(EaiError("no group is running", "start one with `%eai up`"))
        no group is running: start one with `%eai up`
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy

    def _render_traceback_(self) -> list[str]:
        """Have IPython show the line and not the stack: the user's code is not at fault."""
        return [f"{type(self).__name__}: {self}"]
