"""The interface of a ledger part: a share of a step's wall time, and how displays show it.

Other packages add parts by entry points of the group ``eai_notebook.ledger_parts``, each naming a
`LedgerPart`. An added part is time that would else be in `other`: it takes at most what the
parts of the package leave of a step, so all parts still add up to the wall time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.ledger.arrays import Floats

Line = tuple[int, int, int, int]
"""From x, y to x, y, across a tile of 8 x 8 pixels."""

Activity = Literal["computing", "reading", "waiting", "moving", "running"]
"""The class of what a rank is doing; a rank's tile in the panel is coloured by it."""


class StepColumns(Protocol):
    """The columns of the step records of all ranks, ``[R, S]`` each: ranks by steps.

    Lengths are in seconds, times in seconds since the epoch on rank 0's clock; NaN was not
    measured.
    """

    @property
    def waiting(self) -> Floats:
        """How long each rank waited for the last one's gradients."""

    def __getitem__(self, column: str) -> Floats:
        """Return a column of `step_schema.STEP_DTYPE`, or ``wall``."""


@dataclass(frozen=True)
class LedgerPart:
    """A part of a step.

    Args:
        name: What displays call it; a Python name.
        meaning: One line for the legend: what a rank does in this time.
        colour: Of its bars, ``"#rrggbb"``.
        letter: Of its bars in a terminal.
        derive: Returns its seconds, ``[R, S]``, from the columns of the step records; None for
            the part that holds what the others leave.
        columns: Columns of seconds that the step record gets for it, or has already. What
            `eai.section` measures under such a name goes there.
        order: Where it is drawn; the parts of the package have 10 to 50, `other` is always last.
        texture: Lines across its bars, so that colour is not the only sign.
        label: Before "-bound" in a verdict; its name by default.
        does: What a step does in this time, after "30 % of each step ".
        doing: What a rank does meanwhile, in a word or two.
        activity: The class of it.
        wait: Its name among the prices of waiting; empty if a rank does not wait in it.
        makes_late: Whether a rank that takes longer in it makes its peers wait.
        after_exchange: Whether it lies behind the exchange, and so makes late in the next step.
        needs_peers: Whether one rank alone has none of it.
        remedies: What a verdict about it offers to try.

    Examples:
        >>> part = LedgerPart("gc", "Python's garbage collector", "#882255", "g",
        ...     lambda steps: steps["collector"], columns=("collector",))
        >>> part.does, part.makes_late
        ('goes to `gc`', True)
    """

    name: str
    meaning: str
    colour: str
    letter: str
    derive: Callable[[StepColumns], Floats] | None
    columns: tuple[str, ...] = ()
    order: int = 60
    texture: tuple[Line, ...] = ()
    label: str = ""
    does: str = ""
    doing: str = ""
    activity: Activity = "running"
    wait: str = ""
    makes_late: bool = True
    after_exchange: bool = False
    needs_peers: bool = False
    remedies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the words that were left out."""
        words = {"label": self.name, "does": f"goes to `{self.name}`", "doing": f"in {self.name}"}
        for field, word in words.items():
            if not getattr(self, field):
                object.__setattr__(self, field, word)

    def style(self) -> dict[str, Any]:
        """Return what a front end needs to draw the part, as JSON holds it."""
        return {
            "colour": self.colour,
            "meaning": self.meaning,
            "letter": self.letter,
            "texture": [list(line) for line in self.texture],
            "doing": self.doing,
            "activity": self.activity,
            "wait": self.wait,
            "needs_peers": self.needs_peers,
        }
