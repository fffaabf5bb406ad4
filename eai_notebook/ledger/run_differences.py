"""List the settings in which two runs differ, as far as their records hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.ledger.formatting import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eai_notebook.ledger.run_record import RunInfo

_FACTS: Final = {
    "model": "model",
    "parameters": "parameters",
    "optimizer": "optimizer",
    "learning_rate": "learning rate",
    "wire": "wire",
    "sparse": "sparse exchange",
    "mode": "mode",
    "cores": "cores a host",
}
"""What a record's ``meta`` says, and what that is called."""


def differences(
    before: RunInfo, after: RunInfo, samples: tuple[float, float] = (np.nan, np.nan)
) -> list[str]:
    """Return what is not the same in two runs, as ``"batch 2,048 -> 1,024"``.

    ``samples`` are in a rank's batch before and after, NaN where unknown. What only one of
    the records knows is no difference.

    Examples:
        >>> from eai_notebook.ledger.run_record import RunInfo
        >>> one = RunInfo("a", "fit", 2, 0.0, meta={"wire": "fp32"})
        >>> two = RunInfo("b", "fit", 4, 0.0, meta={"wire": "fp16"})
        >>> differences(one, two, (512.0, 256.0))
        ['batch 512 -> 256 a rank', 'ranks 2 -> 4', 'wire fp32 -> fp16']
    """
    found = []
    old, new = samples
    if np.isfinite(old) and np.isfinite(new) and abs(old - new) > 0.01 * max(old, new):
        found.append(f"batch {count(old)} -> {count(new)} a rank")
    if before.size != after.size:
        found.append(f"ranks {before.size} -> {after.size}")
    hosts = [", ".join(sorted(set(info.hosts.values()))) for info in (before, after)]
    if all(hosts) and hosts[0] != hosts[1]:
        found.append(f"hosts {hosts[0]} -> {hosts[1]}")
    found += _pairs(before.meta, after.meta, _FACTS)
    old_versions, new_versions = (info.meta.get("versions") or {} for info in (before, after))
    found += _pairs(old_versions, new_versions, {name: name for name in sorted(old_versions)})
    return found


def _pairs(before: dict[str, Any], after: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    for key, name in names.items():
        old, new = before.get(key), after.get(key)
        if old is not None and new is not None and old != new:
            yield f"{name} {_as_text(old)} -> {_as_text(new)}"


def _as_text(value: Any) -> str:
    return count(value) if isinstance(value, int | float) else str(value)
