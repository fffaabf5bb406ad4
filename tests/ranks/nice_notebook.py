"""A notebook that uses the launcher of `extensions/nice_launcher`: up, a cell, status, down."""

from IPython.core.interactiveshell import InteractiveShell

from eai_notebook.process_lease import is_running, started

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "eai_notebook")
shell.run_line_magic("eai", "up -n 2 --nice 7")
shell.run_cell_magic(
    "distributed",
    "",
    """
import os
import numpy as np
from eai_notebook import collective
level = os.environ["NICE_LEVEL"]  # not os.nice(0): some sandboxes reset priorities
total = float(collective.allreduce_numpy(np.full(1, 1.0 + collective.rank()))[0])
""",
)
session = shell.find_line_magic("eai").__self__.session
levels = [session.pull("level", rank) for rank in (0, 1)]
print("levels", levels, "sum", session.pull("total"))
shell.run_line_magic("eai", "status")
processes = started(session.pids.values())
shell.run_line_magic("eai", "down")
print("processes left:", sum(map(is_running, processes)))
