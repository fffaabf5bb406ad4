"""`BadRows`: raise an error at the first bad row, or count bad rows up to a limit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from eai_notebook.io.part import Loaded
    from eai_notebook.io.pipeline.epoch_plan import Plan


@dataclass
class BadRows:
    """The bad rows found so far, by part; a part that is read again counts once."""

    plan: Plan
    by_part: dict[int, int] = field(default_factory=dict)
    _paths: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _first: EaiError | None = None

    def add(self, index: int, loaded: Loaded) -> None:
        """Add the bad rows of a part.

        Raises:
            EaiError: There is one and `on_error` is ``"raise"``, or there are too many.
        """
        if not loaded.bad:
            return
        plan, part = self.plan, self.plan.source.parts[index]
        if plan.on_error == "raise":
            raise part.fault(loaded.first_bad)
        if self._first is None:
            self._first = part.fault(loaded.first_bad)
        self.by_part[index] = loaded.bad
        self._paths[index] = loaded.bad_paths or (part.path,) * loaded.bad
        bad, rows = sum(self.by_part.values()), plan.source.rows
        if bad == rows:
            raise EaiError(
                f"all {rows} rows are bad; the first: {self._first.what}",
                "check the format",
                code="too-many-bad-rows",
            )
        if bad > plan.max_skipped * rows:
            raise EaiError(
                f"{bad:,} of {rows:,} rows are bad, more than max_skipped={plan.max_skipped:g} "
                f"allows; the first: {self._first.what}",
                "repair the files, or allow a larger share",
                code="too-many-bad-rows",
            )

    @property
    def by_file(self) -> dict[str, int]:
        """The number of bad rows in each file."""
        counts: Counter[str] = Counter()
        for _, paths in sorted(self._paths.items()):
            counts.update(paths)
        return dict(counts)
