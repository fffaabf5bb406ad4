"""The table of the ledger's parts: the package's own and those that other packages add.

Merge, summary, verdict, comparison and every display read it; TypeScript gets it by
``tools/generate_front.py``, and added parts with each run's view. Colours are Okabe and Ito's set,
which people with any colour vision can distinguish.
"""

from __future__ import annotations

import re
import string
import warnings
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.ledger_part import LedgerPart

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

    from eai_notebook.ledger.arrays import Floats
    from eai_notebook.ledger.ledger_part import StepColumns

GROUP: Final = "eai_notebook.ledger_parts"


def _exchange(steps: StepColumns) -> Floats:
    return np.asarray(steps["reduced"] - steps["ready"])


BUILT_IN: Final = (
    LedgerPart(
        name="input",
        meaning="blocked waiting for the next batch",
        colour="#E69F00",
        letter="i",
        derive=lambda steps: steps["input"],
        columns=("input",),
        order=10,
        texture=((-1, 7, 7, -1), (1, 9, 9, 1)),
        does="waits for the next batch",
        doing="waiting for input",
        activity="reading",
        wait="input wait",
    ),
    LedgerPart(
        name="compute",
        meaning="forward and backward, until the local gradients are ready",
        colour="#009E73",
        letter="C",
        derive=lambda steps: steps["compute"],
        columns=("compute",),
        order=20,
        does="computes",
        doing="computing",
        activity="computing",
    ),
    LedgerPart(
        name="wait_peer",
        meaning="gradients ready here, a slower rank not there yet",
        colour="#D55E00",
        letter="w",
        derive=lambda steps: np.where(np.isfinite(_exchange(steps)), steps.waiting, np.nan),
        order=30,
        texture=((-1, 1, 7, 9), (1, -1, 9, 7)),
        does="waits for a slower rank",
        doing="waiting for a slower rank",
        activity="waiting",
        wait="slower ranks",
        makes_late=False,
        needs_peers=True,
    ),
    LedgerPart(
        name="transfer",
        meaning="communication after the last rank was ready",
        colour="#0072B2",
        letter="t",
        derive=lambda steps: _exchange(steps) - steps.waiting,
        order=40,
        texture=((0, 4, 8, 4),),
        label="communication",
        does="moves gradients, after the last rank was ready",
        doing="communicating",
        activity="moving",
        wait="exposed communication",
        makes_late=False,
        needs_peers=True,
    ),
    LedgerPart(
        name="update",
        meaning="applying the reduced gradients",
        colour="#CC79A7",
        letter="u",
        derive=lambda steps: steps["update"],
        columns=("update",),
        order=50,
        texture=((4, 0, 4, 8),),
        does="applies the reduced gradients",
        doing="updating weights",
        activity="computing",
        after_exchange=True,
    ),
    LedgerPart(
        name="other",
        meaning="the rest: callbacks, making iterators, compiling, garbage collection, Python",
        colour="#999999",
        letter="o",
        derive=None,
        order=1000,
        does="goes to Python and to what has no name",
        doing="in Python",
    ),
)
"""The parts of the package, in the order of a step."""


def joined(added: Iterable[LedgerPart]) -> tuple[LedgerPart, ...]:
    """Return the package's parts and `added` ones in the order in which they are drawn.

    An added part whose letter is in use gets another one.

    Raises:
        ValueError: Its name is in use, or a name, a column or the colour is malformed.

    Examples:
        >>> gc = LedgerPart("gc", "garbage collection", "#882255", "C", lambda s: s["collector"])
        >>> [(part.name, part.letter) for part in joined([gc])][-2:]
        [('gc', 'g'), ('other', 'o')]
    """
    table = list(BUILT_IN)
    for part in added:
        _check(part, {known.name for known in table})
        letters = {known.letter for known in table}
        free = (each for each in part.letter + part.name + string.ascii_letters)
        letter = next(each for each in free if each not in letters)
        table.append(replace(part, letter=letter, order=min(part.order, BUILT_IN[-1].order - 1)))
    return tuple(sorted(table, key=lambda part: part.order))


def _check(part: LedgerPart, taken: set[str]) -> None:
    if part.name in taken:
        message = f"there is a part {part.name!r} already"
        raise ValueError(message)
    for name in (part.name, *part.columns):
        if not name.isidentifier():
            message = f"{name!r} is not a name"
            raise ValueError(message)
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", part.colour):
        message = f"its colour {part.colour!r} is not #rrggbb"
        raise ValueError(message)
    if part.derive is None:
        message = "it has no `derive`"
        raise ValueError(message)


def _load_all() -> tuple[LedgerPart, ...]:
    """Return the table with the parts of installed packages; a broken one is left out, and named.

    A training must not fail because of a part that only displays show.
    """
    added: list[LedgerPart] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        added += _load(point, added)
    return joined(added)


def _load(point: EntryPoint, before: list[LedgerPart]) -> list[LedgerPart]:
    try:
        part = point.load()
        if not isinstance(part, LedgerPart):
            message = f"it is {type(part).__name__}, not LedgerPart"
            raise TypeError(message)  # noqa: TRY301 -- it is reported below as any other fault
        joined([*before, part])
    except Exception as error:  # noqa: BLE001 -- whatever a package does when it is loaded
        message = f"the ledger part {point.name!r} of {point.value} is left out: {error}"
        warnings.warn(message, stacklevel=2)
        return []
    return [part]


TABLE: Final = _load_all()
"""All parts, in the order in which they are drawn; the last is `other`."""

PARTS: Final = tuple(part.name for part in TABLE)
"""Their names."""

ADDED: Final = tuple(part for part in TABLE if part.name not in {own.name for own in BUILT_IN})
"""The parts of other packages."""

BY_NAME: Final = dict(zip(PARTS, TABLE, strict=True))

INPUT: Final = PARTS.index("input")
COMPUTE: Final = PARTS.index("compute")
WAIT_PEER: Final = PARTS.index("wait_peer")
TRANSFER: Final = PARTS.index("transfer")
UPDATE: Final = PARTS.index("update")
OTHER: Final = PARTS.index("other")
"""Indexes of the package's own parts."""

OWN: Final = tuple(index for index, part in enumerate(TABLE) if part.makes_late)
"""The parts that a rank spends on itself; in a ring all other time is the same for all."""

MARKED: Final = tuple(PARTS.index(part.name) for part in BUILT_IN[:-1])
"""The parts that timestamps in the graph measure: a step without any of them was not measured."""

IN_ORDER_OF_CLAIM: Final = (*MARKED, *(PARTS.index(part.name) for part in ADDED))
"""All parts but `other`: where they are longer than the step, the later ones are cut."""
