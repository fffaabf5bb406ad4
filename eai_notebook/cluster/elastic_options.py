"""The options of launchers whose ranks outlive each other, and what they mean for ``mpirun`` and ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster import rank_parent
from eai_notebook.cluster.launcher import Option
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Mapping

ELASTIC: Final = Option("elastic", "the other ranks go on when one dies", flag=True)
LEAST: Final = Option("least", "with --elastic: train with no fewer ranks", metavar="N", type=int)

LEAST_RANKS: Final = "EAI_LEAST_RANKS"
"""Where ranks read how many there must be at least to train; see `elastic`."""


def check(given: Mapping[str, Any], size: int) -> None:
    """Refuse a least number of ranks that a group of `size` cannot have.

    Raises:
        EaiError: There are fewer ranks, or the group is not elastic.
    """
    least = given.get("least")
    if least is not None and not (given.get("elastic") and 1 <= least <= size):
        raise EaiError(
            f"--least {least} of {size} ranks",
            f"give --elastic, and at least 1 and at most {size}",
            code="least-ranks",
        )


def rank_variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what ranks read of the options; nothing for a group that is not elastic."""
    if not given.get("elastic"):
        return {}
    least = given.get("least")
    return {rank_parent.ENABLED: "1", **({} if least is None else {LEAST_RANKS: str(least)})}


def mpirun_arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the arguments with which ``mpirun`` lets ranks outlive each other, if they are to."""
    return ["--with-ft", "ulfm"] if given.get("elastic") else []
