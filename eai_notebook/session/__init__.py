"""A session: one group of ranks, its cells and its runs, from plain Python.

Kernel side, in the order things happen: `session` starts a group, `cell_runner` sends a `cell` to it.
Output and telemetry of the ranks come back as events: `cell_output` folds and prints text,
`run_recorder` records telemetry, `rank_errors` finds the root cause. An observer gets it all, and
decides what is shown.
"""

from eai_notebook.session.observer import Watcher
from eai_notebook.session.rank_errors import RankError
from eai_notebook.session.session import Session

__all__ = ["RankError", "Session", "Watcher"]
