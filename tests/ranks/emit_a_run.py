"""Says what a training says about itself, on a rank whose telemetry fails in its middle."""

from typing import Any

from IPython.core.getipython import get_ipython

from eai_notebook import collective
from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.telemetry import messages

rank = collective.rank()
shell: Any = get_ipython()
messages.emit(messages.RunBegan("r", rank, 2, "fit", "here", 1))
for steps in range(1, 21):
    if steps == 10 and rank == 1:
        channel, shell.data_pub = shell.data_pub, None
    messages.emit(messages.StepsDone("r", rank, empty_steps(1)))
    collective.barrier()
if rank == 1:
    shell.data_pub = channel
messages.emit(messages.RunEnded("r", rank, "done", 0.0))
