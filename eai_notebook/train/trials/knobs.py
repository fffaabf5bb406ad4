"""Knobs: settings that can be changed between two steps of a running training.

None of them changes what the training computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from eai_notebook import collective
from eai_notebook.train.exchange import fusion_autotune

if TYPE_CHECKING:
    from collections.abc import Callable


class Knob(ABC):
    """A setting of a rank; all ranks change it at the same step.

    Attributes:
        settles_in: So many steps after a change still show the setting before it.
    """

    settles_in: ClassVar[int] = 1

    @abstractmethod
    def get(self) -> int:
        """Return the value in use."""

    @abstractmethod
    def set(self, value: int) -> None:
        """Use a value from the next step on."""

    def release(self) -> None:  # noqa: B027 -- most knobs have nobody to leave it to
        """Leave the value to whatever has set it before the trial."""


class FusedBytes(Knob):
    """Bytes up to which small tensors are joined into one message."""

    def get(self) -> int:
        """Return the bytes; 0 where the backend joins none."""
        return collective.fused_bytes() or 0

    def set(self, value: int) -> None:
        """Form the ring anew, since the backend reads the number only then."""
        if value != self.get():
            fusion_autotune.use(value)


class InputSize(Knob):
    """A size of the input of `eai.io`: its readers, or the batches that they queue."""

    settles_in: ClassVar[int] = 4

    def __init__(self, size: Any) -> None:
        """Change `size`, an `AdaptiveSize`; it does not adapt meanwhile."""
        self._size = size
        self._adapts = not size.fixed

    def get(self) -> int:
        """Return the number."""
        return int(self._size.size)

    def set(self, value: int) -> None:
        """Have so many from now on."""
        self._size.fixed = True
        self._size.size = value

    def release(self) -> None:
        """Let the size adapt again, if it did."""
        self._size.fixed = not self._adapts


def _fused(data: Any) -> Knob | None:
    del data
    return FusedBytes() if collective.size() > 1 and collective.fused_bytes() else None


def _size(name: str) -> Callable[[Any], Knob | None]:
    def find(data: Any) -> Knob | None:
        size = getattr(getattr(data, "sizing", None), name, None)
        return None if size is None else InputSize(size)

    return find


_FIND: Final = {"fused_bytes": _fused, "readers": _size("readers"), "queue": _size("queue")}


def find(name: str, data: Any) -> Knob | None:
    """Return a knob by its name; None where this training has none of that name.

    ``data`` is the input that batches come from, if it is one of `eai.io`.

    Examples:
        >>> find("readers", data=None) is None
        True
    """
    return _FIND[name](data) if name in _FIND else None
