"""Sessions on a real local group; `tests/hosts` runs some of them on two hosts."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from rank_output import by_rank
from waiting import PATIENCE_S, do_when, press_stop_when, wait_until

from eai_notebook.engine.startup import NANNY
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import command_line, is_running, started
from eai_notebook.session import RankError, Session, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import PreloadedRanks

pytestmark = pytest.mark.ranks


class Listener(Watcher):
    """Keeps what a session reports."""

    def __init__(self) -> None:
        self.said = {"stdout": "", "stderr": ""}
        self.shown: list[dict[str, Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.words: list[str] = []
        self.at_text = threading.Event()

    def progress(self, words: str, *, final: bool = False) -> None:
        self.words.append(words + "." * final)

    def text(self, stream: str, text: str) -> None:
        self.said[stream] += text
        self.at_text.set()

    def rich(self, label: str, content: dict[str, Any]) -> None:
        self.shown.append({"label": label, **content["data"]})

    def group(self, model: dict[str, Any]) -> None:
        self.groups.append(model)

    @property
    def states(self) -> list[str]:
        """The states of the group so far, each change once."""
        states = [model["state"] for model in self.groups]
        return [state for state, _ in itertools.groupby(states)]

    def hears_from(self, ranks: int) -> bool:
        """Return whether so many ranks have printed something."""
        return len(by_rank(self.said["stdout"])) == ranks

    def everything(self) -> str:
        said, self.said["stdout"] = self.said["stdout"], ""
        return said


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def place() -> dict[str, Any]:
    """Say where the group runs; `tests/hosts` overrides it."""
    return {"size": 2}


@pytest.fixture(scope="module")
def session(
    listener: Listener,
    place: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    preloaded_ranks: PreloadedRanks,
) -> Iterator[Session]:
    os.environ["EAI_RUNS"] = str(tmp_path_factory.mktemp("eai") / "runs")
    session = Session(**place, watcher=listener)
    with preloaded_ranks() if place.keys() == {"size"} else contextlib.nullcontext():
        session.up()
    session.run(
        "import numpy as np\nimport eai_notebook as eai\nfrom eai_notebook import collective",
        setup=True,
    )
    yield session
    session.down()
    del os.environ["EAI_RUNS"]


@pytest.fixture
def said(session: Session, listener: Listener) -> Listener:
    """Hear only what is said from now on, with the canary set that every fault must spare."""
    # A group that an earlier test has lost is started again: one failure is one.
    session.run("canary = collective.rank() + 40", restart=True)
    listener.said = {"stdout": "", "stderr": ""}
    listener.shown.clear()
    return listener


def assert_usable(session: Session, listener: Listener) -> None:
    """The next cell finds a working ring and the variables of every rank."""
    listener.everything()
    session.run(
        "print(collective.allreduce_numpy(np.ones(2)).tolist(), canary - collective.rank())"
    )
    assert by_rank(listener.everything()) == {0: ["[2.0, 2.0] 40"], 1: ["[2.0, 2.0] 40"]}


def test_a_cell_runs_on_every_rank(session: Session, said: Listener) -> None:
    session.run("print(collective.rank(), 'of', collective.size())")
    assert by_rank(said.everything()) == {0: ["0 of 2"], 1: ["1 of 2"]}


def test_the_value_of_the_last_line_is_shown(session: Session, said: Listener) -> None:
    session.run("6 * 7")
    assert by_rank(said.everything()) == {0: ["42"], 1: ["42"]}


def test_rich_output_keeps_its_rank(session: Session, said: Listener) -> None:
    session.run("from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))", [1])
    assert [(data["label"], data["text/html"]) for data in said.shown] == [("[1] ", "<b>bold</b>")]


def test_stderr_is_distinguished(session: Session, said: Listener) -> None:
    session.run("import sys\nprint('careful', file=sys.stderr)")
    assert said.said["stdout"] == ""
    assert by_rank(said.said["stderr"]) == {0: ["careful"], 1: ["careful"]}


def test_output_comes_while_the_cell_runs(session: Session, said: Listener) -> None:
    said.at_text.clear()
    stopping = do_when(said.at_text.is_set, session.interrupt)
    with pytest.raises((RankError, KeyboardInterrupt)):
        session.run("import time\nprint('now', flush=True)\ntime.sleep(900)")
    stopping.join()


def test_the_panel_is_reported_of_the_ranks_while_a_cell_runs(
    session: Session, said: Listener, tmp_path: Path
) -> None:
    def busy() -> list[Any]:
        """Return the ranks as last reported while the cell ran, once all have been heard of."""
        models = [model["ranks"] for model in said.groups if model["state"] == "busy"]
        ranks = models[-1] if models else []
        heard = all("sleeps" in (rank["line"] or "") and rank["vitals"] for rank in ranks)
        return list(ranks) if heard else []

    said.groups.clear()
    awake = do_when(busy, (tmp_path / "awake").touch)
    session.run(
        "import os, time\nprint('rank', eai.rank(), 'sleeps')\n"
        f"while not os.path.exists({str(tmp_path / 'awake')!r}): time.sleep(0.05)"
    )
    awake.join()
    for rank in busy():
        assert rank["line"] == f"rank {rank['rank']} sleeps"
        assert rank["vitals"]["memory_bytes"] > 1e8
        assert bool(rank["vitals"]["gpus"]) != bool(rank["vitals"]["no_gpu"])
    assert session.log(1).splitlines()[-1] == "rank 1 sleeps"


def test_a_cell_on_some_ranks_has_a_ring_of_its_own(session: Session, said: Listener) -> None:
    session.run("print(collective.size())", [1])
    assert said.everything() == "[1] 1\n"
    assert_usable(session, said)


def test_an_error_on_one_rank_releases_the_other(session: Session, said: Listener) -> None:
    with pytest.raises(RankError) as caught:
        session.run("if collective.rank() == 1: raise ValueError('row 7')\ncollective.barrier()")
    assert (type(caught.value).__name__, str(caught.value)) == ("ValueError", "row 7")
    shown = "\n".join(caught.value._render_traceback_())
    assert "rank 0 was waiting in a collective, and released." in shown
    assert_usable(session, said)


def test_an_error_in_tensorflow_code_releases_the_other(session: Session, said: Listener) -> None:
    with pytest.raises(RankError) as caught:
        session.run(
            "import tensorflow as tf\n"
            "if collective.rank() == 0: tf.zeros([2]) + tf.zeros([3])\n"
            "collective.allreduce(tf.ones([2]), 'x')"
        )
    assert caught.value.rank == 0
    assert_usable(session, said)


def test_the_same_error_everywhere_is_one_error(session: Session, said: Listener) -> None:
    with pytest.raises(RankError) as caught:
        session.run("no_such_name")
    assert caught.value._render_traceback_()[0].startswith("ranks 0-1 ")
    assert_usable(session, said)


def test_a_rank_that_goes_on_after_an_error_is_interrupted(
    session: Session, said: Listener
) -> None:
    with pytest.raises(RankError) as caught:
        session.run("import time\nif collective.rank() == 0: 1 / 0\ntime.sleep(900)")
    assert caught.value.ename == "ZeroDivisionError"
    assert "interrupted" in caught.value._render_traceback_()[-1]
    assert_usable(session, said)


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(900)",
        "import time\nif collective.rank() == 0: time.sleep(900)\ncollective.barrier()",
        (
            "import time\n"
            "if collective.rank() == 0: collective.allreduce_numpy(np.ones(1))\n"
            "time.sleep(900)"
        ),
    ],
    ids=["asleep", "one waits for a sleeper", "one waits without end"],
)
def test_an_interrupt_ends_the_cell(session: Session, said: Listener, code: str) -> None:
    pressing = press_stop_when(partial(said.hears_from, 2))
    with pytest.raises(KeyboardInterrupt):
        session.run(f"print('on', flush=True)\n{code}")
    pressing.join()
    assert_usable(session, said)


SLOW_TO_SHOW = """
import os, signal, time
class ShowsItself(Exception):
    def _render_traceback_(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return ["shown to the end"]
raise ShowsItself("too late to stop")
"""


def test_an_interrupt_does_not_spoil_what_is_said_of_an_error(
    session: Session, said: Listener
) -> None:
    with pytest.raises(RankError, match="too late to stop") as caught:
        session.run(SLOW_TO_SHOW)
    assert "shown to the end" in "\n".join(caught.value._render_traceback_())
    assert "KeyboardInterrupt" not in said.said["stderr"]
    assert_usable(session, said)


def test_an_interrupt_at_the_very_end_of_the_start_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, preloaded_ranks: PreloadedRanks
) -> None:
    session = Session(2, watcher=Watcher())
    take_over = session._take_over

    def pressed(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        take_over(*arguments)

    monkeypatch.setattr(session, "_take_over", pressed)
    with preloaded_ranks(), pytest.raises(KeyboardInterrupt):
        session.up()
    assert (session.is_up, session.state) == (False, "down")
    monkeypatch.undo()

    def pressed_at_last(words: str, *, final: bool = False) -> None:
        if final:
            raise KeyboardInterrupt(words)

    monkeypatch.setattr(session.watcher, "progress", pressed_at_last)
    with preloaded_ranks(), pytest.raises(KeyboardInterrupt, match="nothing is left running"):
        session.up()
    assert (session.is_up, session.state) == (False, "down")
    monkeypatch.undo()
    with preloaded_ranks(), session:
        session.run("assert True")


SLOW_TO_JOIN = """
import os, pathlib, time
form = collective.form
def form_slowly(ranks=None):
    collective.form = form
    pathlib.Path({folder!r}, f"forming-{{os.getpid()}}").touch()
    while not pathlib.Path({folder!r}, "pressed").exists():
        time.sleep(0.02)
    form(ranks)
collective.form = form_slowly
if collective.rank() == 0: del form_slowly, no_such_name
"""


def _is_forming(folder: Path) -> bool:
    """Return whether both ranks are about to join the ring."""
    return len(list(folder.glob("forming-*"))) == 2


def test_an_interrupt_while_the_ring_is_formed_leaves_it_whole(
    session: Session, said: Listener, tmp_path: Path
) -> None:
    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "pressed").touch()

    with pytest.raises(RankError):
        session.run(SLOW_TO_JOIN.format(folder=str(tmp_path)))
    pressing = do_when(partial(_is_forming, tmp_path), press)
    with pytest.raises(KeyboardInterrupt):
        session.run("began = True; import time; time.sleep(900)")
    pressing.join()
    with pytest.raises(EaiError, match="no variable began"):
        session.pull("began")
    assert_usable(session, said)


def test_a_rank_is_not_interrupted_while_it_joins_the_ring(
    session: Session, said: Listener, tmp_path: Path
) -> None:
    def interrupt() -> None:
        session.interrupt()
        assert session._group is not None
        # The nannies answer in order: once they have answered this, the ranks had the signal.
        session._group.client.send_signal(0, targets=[0, 1], block=False).result(PATIENCE_S)
        (tmp_path / "pressed").touch()

    with pytest.raises(RankError):
        session.run(SLOW_TO_JOIN.format(folder=str(tmp_path)))
    interrupting = do_when(partial(_is_forming, tmp_path), interrupt)
    assert_usable(session, said)
    interrupting.join()


def test_an_interrupt_that_is_late_does_not_strike_the_next_cell(
    session: Session, said: Listener
) -> None:
    children = psutil.Process(session.pids[0]).children()
    (nanny,) = [child for child in children if NANNY in command_line(child)]
    nanny.suspend()  # it delivers the signal
    session.interrupt()
    threading.Timer(0.5, nanny.resume).start()
    session.run("import time; time.sleep(1)")
    assert_usable(session, said)


CAUGHT_AND_RELEASED = """
import time
try:
    print("on", flush=True)
    time.sleep(900)
except KeyboardInterrupt:  # as `except:` would; the ring is left as it is where a rank is stuck
    collective.release()
"""


def test_a_cell_that_catches_the_interrupt_leaves_a_working_ring(
    session: Session, said: Listener
) -> None:
    pressing = press_stop_when(partial(said.hears_from, 2))
    with pytest.raises(KeyboardInterrupt):
        session.run(CAUGHT_AND_RELEASED)
    pressing.join()
    assert_usable(session, said)


def test_an_exchange_that_a_peer_never_joins_is_ended(session: Session, said: Listener) -> None:
    with pytest.raises(EaiError) as caught:
        session.run("if collective.rank() == 0:\n    collective.barrier()")
    assert "rank 1 ended the cell; rank 0 waits in barrier, line 2: `collective.barrier()`" in str(
        caught.value
    )
    assert_usable(session, said)


UNEVEN = """
import keras, numpy as np, tensorflow as tf
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
steps = 9 if collective.rank() == 0 else 4
def batches():
    for _ in range(steps):
        yield np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
spec = (tf.TensorSpec((4, 2)), tf.TensorSpec((4, 1)))
data = tf.data.Dataset.from_generator(batches, output_signature=spec)
model.fit(data, callbacks=eai.callbacks(), shuffle=False, verbose=0)
"""


@pytest.mark.slow
def test_uneven_batches_are_named_and_ended(session: Session, said: Listener) -> None:
    """Rank 1's data ends first: that is certain, so no patience is needed."""
    with pytest.raises(EaiError) as caught:
        session.run(UNEVEN, patience=3600.0)
    assert caught.value.code == "ranks-stalled"
    assert "rank 0 waits in a training step after 4 steps" in str(caught.value)
    assert re.search(r"rank 1 waits in \w+ at the end of an epoch after 4 steps", str(caught.value))
    assert "equally many batches" in str(caught.value)
    assert_usable(session, said)


UNEVEN_WITHOUT_A_RUN = """
import keras, numpy as np
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
rows = 36 if collective.rank() == 1 else 16
model.fit(np.ones((rows, 2)), np.ones((rows, 1)), batch_size=4, verbose=0)
"""

ONE_RANK_ELSEWHERE = """
import tensorflow as tf
a, b = tf.Variable(tf.zeros(3), name="a"), tf.Variable(tf.zeros(3), name="b")
@tf.function
def step(here, x):  # (TensorFlow would average what is constant while it optimizes the graph.)
    of_a = lambda: eai.allreduce_gradients([x], [a])[0]
    return tf.cond(here, of_a, lambda: eai.allreduce_gradients([x], [b])[0])
for number in range(6): step(tf.constant(number < 3 or collective.rank() == 0), tf.ones(3))
"""


@pytest.mark.slow
def test_uneven_batches_are_found_where_no_run_was_opened(session: Session, said: Listener) -> None:
    with pytest.raises(EaiError, match=r"rank 0 ended the cell.*rank 1 waits in a training step"):
        session.run(UNEVEN_WITHOUT_A_RUN, patience=3600.0)
    assert_usable(session, said)


@pytest.mark.slow
def test_different_tensors_within_a_compiled_step_are_named(
    session: Session, said: Listener
) -> None:
    with pytest.raises(EaiError) as caught:
        session.run(ONE_RANK_ELSEWHERE, patience=3.0)
    assert "rank 0 has not sent the gradient of `b`" in str(caught.value)
    assert "rank 1 has not sent the gradient of `a`" in str(caught.value)
    assert "stall_inspector" not in said.said["stderr"]
    assert_usable(session, said)


@pytest.mark.slow
def test_a_long_sleep_is_no_stall(session: Session, said: Listener) -> None:
    session.run("import time\nif collective.rank() == 0: time.sleep(12)\ncollective.barrier()")
    assert said.said["stderr"] == ""


def test_variables_go_both_ways(session: Session) -> None:
    session.push(table={"a": [1, 2]})
    session.run("import tensorflow as tf\nmine = {'t': tf.ones(2) * collective.rank(), **table}")
    pulled = session.pull("mine", rank=1)
    assert pulled["t"].tolist() == [1.0, 1.0]
    assert pulled["a"] == [1, 2]


def test_what_cannot_be_pulled_is_named(session: Session) -> None:
    with pytest.raises(EaiError, match="rank 0 has no variable nowhere"):
        session.pull("nowhere")
    session.run("import threading; lock = threading.Lock()")
    with pytest.raises(EaiError, match="lock cannot be sent from rank 0"):
        session.pull("lock")


def test_a_second_up_is_refused(session: Session) -> None:
    with pytest.raises(EaiError, match="already up"):
        session.up()


def test_no_ranks_are_refused() -> None:
    with pytest.raises(EaiError, match="0 ranks"):
        Session(0)


def test_a_session_that_is_down_says_so() -> None:
    session = Session(2)
    session.down()
    with pytest.raises(EaiError, match="no group is running"):
        session.run("pass")


@pytest.mark.drill
@pytest.mark.slow
def test_a_killed_kernel_takes_its_group_along(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "from eai_notebook.session import Session\n"
                "session = Session(2); session.up(); session.run('pass')\n"
                "print(*session.pids.values(), flush=True); session.run('while True: pass')"
            ),
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        text=True,
    )
    assert owner.stdout is not None
    pids = {int(pid) for pid in owner.stdout.readline().split()}
    assert len(pids) == 2
    rank = min(pids)
    pids |= {child.pid for child in psutil.Process(owner.pid).children(recursive=True)}
    _hold_up_a_nanny(rank)
    owner.kill()
    owner.communicate()
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], PATIENCE_S
    )
    assert not alive
    assert not list((tmp_path / "eai-groups").iterdir())


@pytest.mark.slow
def test_a_rank_that_is_given_up_before_mpirun_ends_is_named(
    session: Session, said: Listener
) -> None:
    assert session._group is not None
    mpirun = psutil.Process(session._group._cluster.engine_set.process.pid)
    mpirun.suspend()  # so that it lingers, as it does for a peer that is slow to end
    os.kill(session.pids[1], signal.SIGKILL)
    group = session._group
    assert wait_until(lambda: group.missing)
    threading.Timer(1.0, mpirun.resume).start()
    with pytest.raises(EaiError, match=r"rank 1 on \S+ died.*%eai restart"):
        session.run("pass")
    assert session.state == "lost"


@pytest.mark.slow
def test_a_rank_that_dies_is_named_and_the_group_can_be_rebuilt(tmp_path: Path) -> None:
    listener = Listener()
    session = Session(2, watcher=listener)
    session.up()
    session.run("from eai_notebook import collective\nset_up = True", setup=True)
    pids = list(session.pids.values())
    code = "import os, signal\nif collective.rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(EaiError, match=r"rank 1 on \S+ died of SIGKILL.*%eai restart"):
        session.run(code + "collective.barrier()")
    assert listener.states[-1] == "lost"
    assert not any(map(psutil.pid_exists, pids))
    session.restart()
    session.run("print(set_up, collective.size())")
    assert by_rank(listener.everything()) == {0: ["True 2"], 1: ["True 2"]}
    known = started([*session.pids.values(), _hold_up_a_nanny(session.pids[0])])
    assert len(known) == 3
    session.down()
    assert not any(map(is_running, known))


def _hold_up_a_nanny(rank: int) -> int:
    """Have a rank's nanny end at nobody's wish, as one that still has something to say."""
    children = psutil.Process(rank).children()
    nanny = next(child for child in children if NANNY in command_line(child))
    nanny.suspend()
    return nanny.pid


every_launcher = pytest.mark.parametrize(
    "same",
    [
        test_a_cell_runs_on_every_rank,
        test_output_comes_while_the_cell_runs,
        test_a_cell_on_some_ranks_has_a_ring_of_its_own,
        test_an_error_on_one_rank_releases_the_other,
        test_a_rank_that_goes_on_after_an_error_is_interrupted,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
"""Marks a test that runs these with a session of another launcher."""
