"""`EaiError`: an error that the user can fix, with its remedy and a stable code."""

from __future__ import annotations

from typing import Any, Final


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

    def __init__(self, what: str, remedy: str, *, code: str) -> None:
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


class ExchangeReleased(EaiError):  # noqa: N818 -- it says what has happened, as KeyboardInterrupt does
    """An exchange ended without a result because its ring was released.

    A peer failed or was stopped, and freed the ranks that waited for it.

    Attributes:
        cause: The error of the library below; None where there is none.

    Examples:
        >>> ExchangeReleased().code
        'exchange-released'
    """

    def __init__(
        self,
        what: str = "the ring was released while this rank exchanged, or before",
        remedy: str = "see which rank failed or was stopped first, then form the ring again",
        *,
        cause: BaseException | None = None,
        code: str = "exchange-released",
    ) -> None:
        super().__init__(what, remedy, code=code)
        self.cause = cause


class ExchangeFailed(ExchangeReleased):
    """An exchange ended because its library failed: a peer died or a link broke."""

    def __init__(
        self,
        what: str = "an exchange between ranks failed",
        remedy: str = "see whether all ranks and hosts are there, then form the ring again",
        *,
        cause: BaseException | None = None,
        code: str = "exchange-failed",
    ) -> None:
        super().__init__(what, remedy, cause=cause, code=code)


class TrainingStopped(EaiError):  # noqa: N818 -- it says what has happened, as KeyboardInterrupt does
    """A training wrote a checkpoint and ended, as it was asked to before its job ends.

    Examples:
        >>> TrainingStopped("stopped at step 7; the checkpoint is in ckpt").code
        'training-stopped'
    """

    def __init__(
        self,
        what: str,
        remedy: str = "run the cell again to go on from it",
        *,
        code: str = "training-stopped",
    ) -> None:
        super().__init__(what, remedy, code=code)


RELEASED: Final = frozenset({ExchangeReleased.__name__, ExchangeFailed.__name__})
"""The names of these types, for processes that hear of an error by the name of its type."""


def _again(kind: type[EaiError], args: tuple[Any, ...]) -> EaiError:
    """Create an error from its message, whatever the arguments of its class."""
    return kind.__new__(kind, *args)
