"""The environment that Open MPI's ``mpirun`` starts in, wherever the notebook runs."""

from __future__ import annotations

import os
import pwd
import tempfile
from typing import Final

NO_SCHEDULER: Final = {
    f"{prefix}_MCA_{what}": f"^slurm,pbs,tm,lsf{more}"
    for prefix in ("PRTE", "OMPI")  # of Open MPI 5, and before
    for what, more in (("ras", ",gridengine"), ("plm", ""))
}
"""Has ``mpirun`` use the hosts it is given although the notebook runs inside a scheduler's job.

It would read the job's nodes otherwise, and start its daemons there. The job's variables are left
as they are: a cell may want to read them."""

TENSORFLOW_BACKEND: Final = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}
"""What Keras must be on a rank, whatever the notebook's own Keras is."""


def home() -> dict[str, str]:
    """Return HOME where it is not set, as in a service: Open MPI does not start without it."""
    if os.environ.get("HOME"):
        return {}
    try:
        return {"HOME": pwd.getpwuid(os.geteuid()).pw_dir}
    except KeyError:  # a container that runs as a user it does not know
        return {"HOME": tempfile.gettempdir()}
