"""Random cells in real groups: faults of the drills and of other people's programs, combined.

Each round takes one or two faults of `tests/drills` or of the list below, at random, gives them to
one rank, to all, or to a thread beside a training, and now and then presses Stop at a random
moment. A cell must end within `LIMIT_S` of what it waits for, as an error, an interrupt, or well;
afterwards a cell with an exchange must work and a variable of every rank be there, unless the cell
killed a rank or the user gave the group up.

    python benchmarks/random_cells.py --minutes 20 --seed 1
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import _harness as harness

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import contextlib

from drills.catalog import DRILLS, PREPARE, Drill
from drills.runner import Count

from eai_notebook.errors import EaiError
from eai_notebook.session import RankError, Session

_FOLDERS: Final = re.compile(r'(?<=File ")/[^"]*/')
"""Of files in a traceback: a result names no folder of the machine."""
LIMIT_S: Final = 200.0
"""How long a cell may take: a minute's patience, and as much again on a busy machine."""

HELPERS: Final = """
import asyncio, dataclasses, getpass, gc, logging, multiprocessing, subprocess, threading, warnings
def small(optimizer="sgd", **how):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **how)
    return model
X = np.random.default_rng(7).normal(size=(64, 4)).astype("float32")
Y = X[:, :1] * 2
@dataclasses.dataclass
class Config:
    units: int = 4
def flow(rows=64):
    return tf.data.Dataset.from_tensor_slices((X[:rows], Y[:rows])).batch(8)
"""

FAULTS: Final[dict[str, str]] = {
    # what a program does that is not as Keras's guides have it
    "uneven rows": "eai.fit(small(), X[:32 + 16 * rank], Y[:32 + 16 * rank], verbose=0)",
    "no rows": "eai.fit(small(), X[:32 * rank], Y[:32 * rank], verbose=0)",
    "plain fit": "small().fit(X, Y, verbose=0)",
    "uneven wrapped fit": "small(eai.DistributedOptimizer('sgd'))"
    ".fit(X[:32 + 16 * rank], Y[:32 + 16 * rank], batch_size=8, verbose=0)",
    "rank 0 alone": "if rank == 0: eai.fit(small(), X, Y, verbose=0)",
    "other model": "keras.utils.clear_session() or eai.fit(keras.Sequential("
    "[keras.layers.Dense(1 + rank), keras.layers.Dense(1)]), X, Y)",
    "other vocabulary": "look = keras.layers.StringLookup(vocabulary=['ab'[rank % 2]])\n"
    "i = keras.Input((1,), dtype='string')\n"
    "m = keras.Model(i, keras.layers.Dense(1)(keras.layers.Embedding(4, 2)(look(i))))\n"
    "m.compile('sgd', 'mse')\n"
    "eai.fit(m, tf.constant([['a']] * 8), np.ones((8, 1, 1)), verbose=0)",
    "nan loss": "eai.fit(small(), X * np.inf, Y, verbose=0)",
    "generator ends": "def rows():\n    for _ in range(3 + rank): yield X[:8], Y[:8]\n"
    "eai.fit(small(), rows(), steps_per_epoch=4, verbose=0)",
    "generator raises": "def rows():\n    yield X[:8], Y[:8]\n    if rank == 1: raise OSError('gone')\n"
    "    while True: yield X[:8], Y[:8]\n"
    "eai.fit(small(), rows(), steps_per_epoch=6, verbose=0)",
    "map raises": "def bad(x, y):\n    if rank == 1: raise OSError('bad row')\n    return x, y\n"
    "eai.fit(small(), flow().map(lambda x, y: (tf.ensure_shape(tf.numpy_function(bad, [x, y], "
    "[tf.float32, tf.float32])[0], x.shape), y)), verbose=0)",
    "branch on one rank": "class B(keras.Model):\n    def __init__(self):\n        super().__init__()\n"
    "        self.a, self.b = keras.layers.Dense(1), keras.layers.Dense(1)\n"
    "    def call(self, x):\n        return self.a(x) + (self.b(x) if rank == 1 else 0 * self.b(x).shape[-1])\n"
    "m = B(); m.compile(eai.DistributedOptimizer('sgd'), 'mse'); eai.fit(m, X, Y, verbose=0)",
    "save on all": "m = small(); eai.fit(m, X, Y, verbose=0); m.save('random.keras')\n"
    "keras.models.load_model('random.keras')",
    "stops early": "class S(keras.callbacks.Callback):\n"
    "    def on_train_batch_end(self, b, logs=None):\n        self.model.stop_training = rank == 1\n"
    "eai.fit(small(), flow(), epochs=3, callbacks=[S()], verbose=0)",
    "callback raises": "class S(keras.callbacks.Callback):\n    def on_epoch_end(self, e, logs=None):\n"
    "        if rank == 1: raise RuntimeError('callback')\n"
    "eai.fit(small(), flow(), epochs=3, callbacks=[S()], verbose=0)",
    "loop apart": "m = small()\nfor _ in range(3):\n    m.train_on_batch(X[:8] * (1 + rank), Y[:8])",
    "uneven loop": "m = small(); o = eai.DistributedOptimizer('sgd')\nfor _ in range(3 + rank):\n"
    "    with tf.GradientTape() as t: l = tf.reduce_mean((m(X) - Y) ** 2)\n"
    "    o.apply(t.gradient(l, m.trainable_variables), m.trainable_variables)",
    # what a cell does beside training
    "await": "await asyncio.sleep(0.2)",
    "await raises": "await asyncio.sleep(0.1)\nif rank == 1: fail()\ncollective.barrier()",
    "gather tasks": "async def one(i):\n    await asyncio.sleep(0.01 * i)\n    return i\n"
    "print(await asyncio.gather(*[one(i) for i in range(5)]))",
    "exit": "exit",
    "exit on one": "if rank == 1: quit()\ncollective.barrier()",
    "sys.exit in a thread": "t = threading.Thread(target=sys.exit); t.start(); t.join()",
    "thread raises": "t = threading.Thread(target=fail); t.start(); t.join()",
    "thread stays": "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()",
    "input": "input('name? ')",
    "getpass": "getpass.getpass()",
    "breakpoint": "breakpoint()",
    "pdb": "%debug",
    "recursion": "def dive(n): return dive(n + 1)\ndive(0)",
    "memory": "np.zeros(1 << 60)",
    "syntax": "if rank = 1: pass",
    "latin-1": "os.write(1, 'caf\\xe9\\n'.encode('latin-1'))",
    "long line": "print('x' * 5_000_000)",
    "binary": "sys.stdout.write(''.join(map(chr, range(1, 256))) + '\\n')",
    "stderr of C": "os.write(2, b'[0] Missing ranks:\\n[ 12')",
    "warnings": "for i in range(500): warnings.warn(f'warning {i}')",
    "logging": "logging.basicConfig(level=10, force=True)\nfor i in range(500): logging.debug('x %d', i)",
    "subprocess": "print(subprocess.run(['sh', '-c', 'echo out; echo err >&2; exit 3']).returncode)",
    "shell": "!echo $PWD; exit 1",
    "pool": "ctx = multiprocessing.get_context('fork')\nwith ctx.Pool(2) as p: print(p.map(abs, range(4)))",
    "chdir": "os.makedirs('elsewhere', exist_ok=True); here = os.getcwd(); os.chdir('elsewhere')\n"
    "os.chdir(here)",
    "closed stdout": "sys.stdout.flush(); old = sys.stdout; sys.stdout = None; sys.stdout = old",
    "signal": "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_DFL)",
    "alarm": "signal.signal(signal.SIGALRM, lambda *_: fail()); signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
    "time.sleep(1)",
    "caught interrupt": "try:\n    loop(300)\nexcept KeyboardInterrupt:\n    print('caught')",
    "bare except": "for _ in range(3):\n    try: loop(200)\n    except: pass",
    "capture": "%%capture out\nprint('hidden')",
    "timeit": "%timeit -n 2 -r 2 sum(range(10))",
    "time": "%%time\nloop(5)",
    "unknown magic": "%no_such_magic",
    "html": "from IPython.display import HTML, display; display(HTML('<b>hi</b>'))",
    "gc": "gc.collect()",
    "del names": "rank_kept = rank; del rank; rank = rank_kept",
    "shadowed names": "print_, print = print, None; print = print_",
    "import error": "import no_such_module_at_all",
    "reset": "%who",
}
BUGS: Final = frozenset(
    {"AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "TypeError"}
    | {"UnboundLocalError", "ValueError"}
)
"""What our own code does not raise on purpose."""
KILLS: Final = frozenset({"death"})
PULLS: Final = ("canary", "X", "Config", "nothing_of_the_kind", "threading", "collective")


@dataclass
class Found:
    """What came of the rounds."""

    cells: int = 0
    hangs: int = 0
    groups_lost: int = 0
    state_lost: int = 0
    unusable: int = 0
    misled: int = 0


class Rounds:
    """Runs random cells in one group, which it starts again when a cell has killed a rank."""

    def __init__(self, size: int, seed: int) -> None:
        self.found = Found()
        self.ends: collections.Counter[str] = collections.Counter()
        self.bad: list[dict[str, Any]] = []
        self._random = random.Random(seed)
        self._session = Session(size, watcher=Count())
        self._raised_at = ""
        self._faults = {drill.name: drill for drill in DRILLS}
        self._faults |= {name: Drill(name, code, "fine") for name, code in FAULTS.items()}

    def run(self, minutes: float) -> None:
        """Run cells for so long."""
        end = time.monotonic() + 60 * minutes
        self._start()
        while time.monotonic() < end:
            self._round()
        self._session.down()

    def _start(self) -> None:
        if self._session.is_up:
            self._session.restart()
        else:
            self._session.up()
        self._session.run(PREPARE + HELPERS, setup=True)
        self._session.run("canary = 40 + rank")

    def _round(self) -> None:
        drill, code, stop = self._cell()
        begin = time.monotonic()
        came = self._watched(code, stop)
        seconds = time.monotonic() - begin
        self.found.cells += 1
        self.ends[came.partition(":")[0]] += 1
        lost = not self._session.is_up
        given_up = drill.comes in ("death", "stuck")
        problem = ""
        if seconds > LIMIT_S:
            self.found.hangs += 1
            problem = f"took {seconds:.0f} s"
        elif lost and not given_up:
            self.found.groups_lost += 1
            problem = "group lost"
        elif "Traceback" in came or came.startswith("other"):
            self.found.misled += 1
            problem = "an error of another kind"
        elif self._raised_at:
            self.found.misled += 1
            problem = f"an error out of our own code: {self._raised_at}"
        if lost or drill.comes == "stuck":
            self._start()
        else:
            problem = problem or self._look_after()
        if problem:
            self.bad.append(
                {
                    "drill": drill.name,
                    "code": code,
                    "stop": stop,
                    "came": _FOLDERS.sub("", came)[:600],
                }
            )
            self.bad[-1]["problem"] = problem
            harness.say(f"WRONG: {self.bad[-1]}")
            if problem != "group lost":
                self._start()
        harness.say(f"{self.found.cells} {drill.name} {seconds:.1f} s: {came[:80]!r}")

    def _cell(self) -> tuple[Drill, str, float | None]:
        """Return a fault, the cell that has it, and when the user presses Stop, if at all."""
        pick = self._random
        drill = self._faults[pick.choice(sorted(self._faults))]
        stop = drill.after
        code = drill.code
        if drill.comes == "fine" and not code.startswith("%") and drill.name in FAULTS:
            first = self._faults[pick.choice(sorted(FAULTS))].code
            how = pick.random()
            if how < 0.2 and not first.startswith("%") and "await" not in first:
                code = f"{first}\n{code}"
            elif how < 0.35 and "await" not in code and "!" not in code and code != "exit":
                body = "\n".join(f"    {line}" for line in code.splitlines())
                code = f"if rank == {pick.randrange(2)}:\n{body}\nloop(20)"
            if pick.random() < 0.25:
                stop = pick.uniform(0.05, 4.0)
        return drill, code, stop

    def _watched(self, code: str, stop: float | None) -> str:
        """Run a cell and return what ended it; after `LIMIT_S` Stop is pressed until it ends."""
        self._raised_at = ""
        over = threading.Event()
        stopper = threading.Thread(target=_press, args=(over, stop), daemon=True)
        stopper.start()
        try:
            self._session.run(code)
            came = "fine"
        except RankError as error:
            came = f"error: {error}"
            self._raised_at = _out_of_ours(error)
        except EaiError as error:
            came = f"refused: {error}"
        except KeyboardInterrupt as error:
            came = f"interrupt: {error}"
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is counted
            came = f"other: {type(error).__name__}: {error}"
        over.set()
        try:
            stopper.join()
        except KeyboardInterrupt:
            stopper.join()
        return came

    def _look_after(self) -> str:
        """Return what is wrong with a group that should be whole; ``""`` if nothing is."""
        try:
            self._session.run("total = collective.allreduce_numpy(np.ones(1))[0]")
            if self._session.pull("total") != self._session.size:
                self.found.unusable += 1
                return "the exchange is wrong"
            alive = [self._session.pull("canary", rank) for rank in range(self._session.size)]
            if alive != [40 + rank for rank in range(self._session.size)]:
                self.found.state_lost += 1
                return f"variables are {alive}"
            self._pull_something()
        except KeyboardInterrupt:  # pressed late
            return ""
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is counted
            self.found.unusable += 1
            return f"next cell: {type(error).__name__}: {str(error)[:300]}"
        return ""

    def _pull_something(self) -> None:
        with contextlib.suppress(EaiError, NameError):
            self._session.pull(self._random.choice(PULLS))


def _out_of_ours(error: RankError) -> str:
    """Return where our own code raised an error that is none of ours; ``""`` if it did not."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error._render_traceback_()))
    files = re.findall(r"^File (\S+):(\d+)", text, re.MULTILINE)
    ours = bool(files) and "/eai_notebook/" in files[-1][0]
    return ":".join(files[-1]) if ours and error.ename in BUGS else ""


def _press(over: threading.Event, first: float | None) -> None:
    """Press Stop after `first` seconds, and again and again once a cell has had its time."""
    if first is not None and not over.wait(first):
        os.kill(os.getpid(), signal.SIGINT)
    if not over.wait(LIMIT_S):
        while not over.wait(20.0):
            os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Run random cells and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=2)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rounds = Rounds(given.size, given.seed)
    rounds.run(given.minutes)
    summary = {**vars(rounds.found), "seed": given.seed, "minutes": given.minutes}
    harness.finish(
        f"random_cells_seed_{given.seed}", summary, {"ends": rounds.ends, "wrong": rounds.bad}
    )


if __name__ == "__main__":
    main()
