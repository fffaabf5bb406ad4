"""A session: one group of ranks, its cells and its runs, from plain Python.

Kernel side, in the order things happen: `session` starts a group and sends a `cell`;
what the ranks say comes back as events: `output` folds and prints text, `runs` records
telemetry, `failure` finds the root cause. A `watcher` is told, and decides what is shown.
"""

from eai_notebook.session.observer import Watcher
from eai_notebook.session.rank_errors import RankError
from eai_notebook.session.session import Session

__all__ = ["RankError", "Session", "Watcher"]
