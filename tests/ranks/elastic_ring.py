"""A rank that adds numbers up for a while, and dies, fails, leaves or grows when it is its turn.

Arguments: a list of [exchange, rank, what] as JSON, the least ranks to go on with, and a folder for
what each rank has to say. What a rank does: "kill", "fail" or "leave", "start 4", that is start
a newcomer with this number, and "wait 4" until it is ready. A newcomer's first exchange is -1:
it can be killed "before" it connects, or "after" that. In an exchange that was cut short a rank
"errs", or "lies": it has a sum that is none. "end launcher" kills mpirun, which ranks outlive.
"""

import contextlib
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from mpi4py import MPI

from eai_notebook.collective import host_deaths, lost_daemon, newcomers, survivors
from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.elastic.fault_tolerant_ring import FaultTolerantRing, State
from eai_notebook.elastic.gradient_sum import LITTLE
from eai_notebook.errors import EaiError

EXCHANGES = 60
VIRTUAL = 6

world = MPI.COMM_WORLD
world.Set_errhandler(MPI.ERRORS_RETURN)
least, folder = int(sys.argv[2]), Path(sys.argv[3])
number = survivors.number()
mine: dict[int, list[str]] = {}
for at, rank, what in json.loads(sys.argv[1]):
    if rank == number:
        mine.setdefault(at, []).append(what)
file = (folder / f"{number}.jsonl").open("w")


def say(**what: object) -> None:
    """Say it on one line, at once."""
    file.write(json.dumps(what) + "\n")
    file.flush()


def die() -> None:
    """End this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def joined() -> tuple[FaultTolerantRing, int]:
    """Come in, or die; return the ring and its next exchange."""
    newcomers.request(newcomers.ASKS)
    assert newcomers.facts() == {"exchanges": EXCHANGES, "virtual": VIRTUAL}
    connect = newcomers.connect
    todo = mine.pop(-1, [])

    def dies(port: str) -> MPI.Intracomm:
        if "before" not in todo:
            connect(port)
        die()
        raise AssertionError

    if todo:
        newcomers.connect = dies
    ring, (facts, arrays) = FaultTolerantRing.join()
    assert arrays[0].tolist() == [7.0]
    return ring, facts["next"]


def cut_short(what: str) -> None:
    """Have the ring's next sum, and no other, come to nothing: it "errs", or it "lies"."""
    summed = ring._summed

    def cut(mine: Contribution) -> Contribution:
        ring._summed = summed
        found = summed(mine)
        if what == "errs":
            raise MPI.Exception(MPI.ERR_PROC_FAILED)
        found.numbers[:] = 0.0
        found.gradients[:] = 0.0
        return found

    ring._summed = cut


def give(exchange: int, block: range) -> Contribution:
    """Return what virtual ranks give, after what this rank does in the exchange."""
    for todo in mine.pop(exchange, []):
        what, _, which = todo.partition(" ")
        if what == "kill":
            die()
        if what == "fail":
            raise ValueError("of my own")
        ring.is_leaving |= what == "leave"
        if what in ("errs", "lies"):
            cut_short(what)
        if todo == "end launcher":
            os.kill(int((folder / "launcher").read_text()), signal.SIGKILL)
        if what == "start":
            newcomers.start(int(which), json.loads(os.environ["EAI_TEST_COMMAND"]))
        if what == "wait":
            while not (ring._coming() or newcomers.failure(int(which))):
                time.sleep(0.01)
    rows = np.array([virtual % 4 for virtual in block], np.int64)
    gradients = [gradients_of(virtual, exchange) for virtual in block]
    return Contribution(
        np.array([sum((virtual + 1) * exchange for virtual in block), len(block)], float),
        [Slices(rows, np.array([[virtual + 0.5] for virtual in block]).reshape(-1, 1))],
        gradients[0] if len(gradients) == 1 else np.sum(gradients, 0, np.float64),
        runs=len(block),
    )


def gradients_of(virtual: int, exchange: int) -> np.ndarray:
    """Return what a virtual rank gives: few numbers in even exchanges, many in odd ones."""
    count = 3 if exchange % 2 == 0 else LITTLE + 5
    drawn = np.random.default_rng((virtual, exchange)).normal(size=count)
    return drawn.astype(np.float32)


def state(exchange: int) -> State:
    """Return what a newcomer is given after an exchange."""
    return {"next": exchange + 1}, [np.array([7.0])]


first = 0
say(began=True, pid=os.getpid())
if "end launcher" in sys.argv[1]:
    assert lost_daemon.outlive()
    host_deaths.watch(world)
try:
    if newcomers.is_one():
        ring, first = joined()
    else:
        ring = FaultTolerantRing.form(world, range(world.size), VIRTUAL, least)
    ring.facts = {"exchanges": EXCHANGES}
    for exchange in range(first, EXCHANGES):
        total = ring.exchange(partial(give, exchange))
        if total.numbers.tolist() != [21.0 * exchange, VIRTUAL]:
            say(wrong=total.numbers.tolist(), exchange=exchange)
        if total.tables[0].values.ravel().tolist() != [5.0, 7.0, 2.5, 3.5]:
            say(wrong=total.tables[0].values.tolist(), exchange=exchange)
        whole = [gradients_of(virtual, exchange) for virtual in range(VIRTUAL)]
        mean = (np.sum(whole, 0, np.float64) / VIRTUAL).astype(np.float32)
        if not np.array_equal(total.gradients, mean):
            say(wrong="gradients", exchange=exchange)
        if ring.end_step():
            say(left=exchange)
            die()
        ring.let_in(partial(state, exchange))
    ring.close()
    changes = ring.changes
    say(
        done=ring.members,
        lost=[change.lost for change in changes if change.lost],
        joined=[change.joined for change in changes if change.joined],
        first=first,
    )
except EaiError as error:
    say(code=error.code)
except ValueError:
    ring.fail()
    say(code="own")
if any(what.startswith("start") for _, _, what in json.loads(sys.argv[1])):
    with contextlib.suppress(MPI.Exception):
        ring.communicator.Barrier()
    die()  # (The end of a newcomer that MPI has not seen end would be that of all.)
os._exit(0)  # (Where rank 0 is dead, MPI's own end would wait for it.)
