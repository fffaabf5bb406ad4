"""A rank that adds numbers up for a while, and dies, fails or leaves when it is its turn.

Arguments: a list of [exchange, rank, what] as JSON (what: "kill", "fail" or "leave"), the least
ranks to go on with, and a folder for what each rank has to say.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
from mpi4py import MPI

from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.elastic.fault_tolerant_ring import FaultTolerantRing
from eai_notebook.errors import EaiError

EXCHANGES = 60
VIRTUAL = 6

world = MPI.COMM_WORLD
world.Set_errhandler(MPI.ERRORS_RETURN)
mine = {at: what for at, rank, what in json.loads(sys.argv[1]) if rank == world.rank}
least, folder = int(sys.argv[2]), Path(sys.argv[3])
file = (folder / f"{world.rank}.jsonl").open("w")
ring = FaultTolerantRing(world, range(world.size), VIRTUAL, least)


def say(**what: object) -> None:
    """Say it on one line, at once."""
    file.write(json.dumps(what) + "\n")
    file.flush()


def give(exchange: int, block: range) -> Contribution:
    """Return what virtual ranks give, after what this rank does in the exchange."""
    todo = mine.pop(exchange, None)
    if todo == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if todo == "fail":
        raise ValueError("of my own")
    ring.is_leaving |= todo == "leave"
    rows = np.array([virtual % 4 for virtual in block], np.int64)
    return Contribution(
        np.array([sum((virtual + 1) * exchange for virtual in block), len(block)], float),
        [Slices(rows, np.array([[virtual + 0.5] for virtual in block]).reshape(-1, 1))],
    )


say(began=True)
try:
    for exchange in range(EXCHANGES):
        total = ring.exchange(partial(give, exchange))
        if total.numbers.tolist() != [21.0 * exchange, VIRTUAL]:
            say(wrong=total.numbers.tolist(), exchange=exchange)
        if total.tables[0].values.ravel().tolist() != [5.0, 7.0, 2.5, 3.5]:
            say(wrong=total.tables[0].values.tolist(), exchange=exchange)
        if ring.end_step():
            say(left=exchange)
            os.kill(os.getpid(), signal.SIGKILL)
    ring.close()
    say(done=ring.members, lost=[change.lost for change in ring.changes])
except EaiError as error:
    say(code=error.code)
except ValueError:
    ring.fail()
    say(code="own")
os._exit(0)  # (Where rank 0 is dead, MPI's own end would wait for it.)
