"""`Change` of who takes part in elastic training, the `State` of newcomers, and too few left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import numpy as np

State = tuple[dict[str, Any], "list[np.ndarray]"]
"""What a newcomer is given: facts that `objects` can encode, and arrays."""


@dataclass(frozen=True)
class Change:
    """A change of the membership.

    Attributes:
        lost: Members that are gone, by their numbers in the group.
        members: Those that are left, in order.
        seconds: How long it took to go on, from the error on or from the end of the step.
        joined: Members that have come.
    """

    lost: tuple[int, ...]
    members: tuple[int, ...]
    seconds: float
    joined: tuple[int, ...] = ()


class TooFewRanksError(EaiError):
    """Fewer ranks are left than there are to be at least."""

    def __init__(self, left: int, least: int) -> None:
        super().__init__(
            f"{left} of the least of {least} ranks are left: training has ended",
            "`%eai restart`, and run the cell again: with checkpoint= it goes on where it was",
            code="too-few-ranks",
        )
