"""Describe the first difference of a variable between ranks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

Digest = list[dict[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Where the ranks part: in the part at ``path``, the ``odd`` ranks have something else.

    ``even`` is the first of the ranks that most agree with.
    """

    path: str
    odd: tuple[int, ...]
    even: int
    others: int
    kinds: tuple[str, str]
    label: str = ""


def first_difference(found: Mapping[int, Digest]) -> Difference | None:
    """Return where the digests of the ranks first differ, or None if they do not.

    Examples:
        >>> same = [{"path": "x", "kind": "int64 []", "sum": 1}]
        >>> first_difference({0: same, 1: same}) is None
        True
    """
    tables = {rank: {part["path"]: part for part in digest} for rank, digest in found.items()}
    paths = list(dict.fromkeys(path for table in tables.values() for path in table))
    different = [p for p in paths if len({_key(table.get(p)) for table in tables.values()}) > 1]
    if not different:
        return None
    path = different[0]
    keys = {rank: _key(table.get(path)) for rank, table in tables.items()}
    usual = Counter(keys.values()).most_common(1)[0][0]
    odd = tuple(rank for rank, key in keys.items() if key != usual)
    even = next(rank for rank, key in keys.items() if key == usual)
    kinds = tuple(_kind(tables[rank].get(path)) for rank in (even, odd[0]))
    label = (tables[even].get(path) or {}).get("label", "")
    return Difference(path, odd, even, len(different) - 1, (kinds[0], kinds[1]), label)


def describe_difference(difference: Difference, even: Any, odd: Any) -> str:
    """Say what `difference` is; `even` and `odd` are the part on one rank of each side."""
    label = f" ({difference.label})" if difference.label else ""
    whose = f"`{difference.path}`{label} of {name_ranks(difference.odd)} differs"
    if difference.kinds[0] != difference.kinds[1]:
        what = f"{difference.kinds[1]}, on rank {difference.even} {difference.kinds[0]}"
    elif isinstance(even, np.ndarray):
        what = _distance(even, odd)
    else:
        what = f"{_short(odd)}, on rank {difference.even} {_short(even)}"
    more = f"; {difference.others} more parts differ" if difference.others else ""
    return f"{whose} from rank {difference.even}: {what}{more}"


def _distance(even: np.ndarray, odd: np.ndarray) -> str:
    if even.dtype.kind not in "biufc":
        return f"{int(np.sum(even != odd))} of {even.size} values"
    wide = np.result_type(even.dtype, np.float64)
    apart = np.abs(even.astype(wide) - odd.astype(wide))
    changed = ~((even == odd) | ((even != even) & (odd != odd)))  # noqa: PLR0124  # NaN is not itself
    first = np.argwhere(changed)[:1].tolist()
    place = f", first at {first[0]}" if first and first[0] else ""
    count = f"{int(changed.sum())} of {even.size} values"
    return f"max abs difference {np.nanmax(apart, initial=0.0):.3g}, {count}{place}"


def _key(part: Mapping[str, Any] | None) -> tuple[str, int] | None:
    return None if part is None else (part["kind"], part["sum"])


def _kind(part: Mapping[str, Any] | None) -> str:
    return "missing" if part is None else str(part["kind"])


def _short(text: Any) -> str:
    return str(text)[:60]
