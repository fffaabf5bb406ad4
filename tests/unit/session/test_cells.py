"""Cells of every kind on a real local group: whatever a cell does, it ends, and the group lives on."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from paths import RANKS
from rank_output import by_rank
from unit.session.test_session import Listener
from waiting import PATIENCE_S, press_stop_when

from eai_notebook.errors import EaiError
from eai_notebook.session import RankError, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import PreloadedRanks

pytestmark = pytest.mark.ranks

PROGRAMS = RANKS


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def session(
    listener: Listener, tmp_path_factory: pytest.TempPathFactory, preloaded_ranks: PreloadedRanks
) -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAI_RUNS", str(tmp_path_factory.mktemp("eai") / "runs"))
        session = Session(2, watcher=listener)
        with preloaded_ranks():
            session.up()
        session.run("import asyncio, os, sys, time\nimport eai_notebook as eai", setup=True)
        yield session
        session.down()


@pytest.fixture
def said(session: Session, listener: Listener) -> Iterator[Listener]:
    """Hear only what is said from now on; after the test the group has all its variables."""
    session.run("kept = 41", restart=True)
    listener.said = {"stdout": "", "stderr": ""}
    listener.shown.clear()
    yield listener
    listener.everything()
    session.run("print(kept)")
    assert by_rank(listener.everything()) == {0: ["41"], 1: ["41"]}


# -- top-level await


@pytest.mark.parametrize(
    "code",
    [
        "await asyncio.sleep(0.01)\nprint('done')",
        "async def numbers():\n    yield 'done'\nasync for one in numbers():\n    print(one)",
        "async with asyncio.Lock():\n    print('done')",
    ],
)
def test_a_cell_may_await(session: Session, said: Listener, code: str) -> None:
    session.run(code)
    assert by_rank(said.everything()) == {0: ["done"], 1: ["done"]}


def test_a_task_goes_on_in_the_next_cell(session: Session, said: Listener) -> None:
    session.run("task = asyncio.create_task(asyncio.sleep(0.01, 'done'))")
    session.run("print(await task)")
    assert by_rank(said.everything()) == {0: ["done"], 1: ["done"]}


def test_an_error_after_an_await_frees_a_rank_that_awaits(session: Session, said: Listener) -> None:
    fails = "await asyncio.sleep(0.01)\nif eai.rank() == 1: raise ValueError('one')"
    with pytest.raises(RankError, match="one") as caught:
        session.run(f"{fails}\nawait asyncio.sleep(900)")
    assert type(caught.value).__name__ == "ValueError"
    assert "rank 0 was still running, and interrupted" in str(caught.value._render_traceback_())


@pytest.mark.parametrize(
    "code",
    [
        "await asyncio.sleep(900)",
        "await asyncio.sleep(0.01)\ntime.sleep(900)",
        "async def block(): time.sleep(900)\nawait asyncio.gather(block(), asyncio.sleep(900))",
    ],
)
def test_stop_ends_a_cell_that_awaits(session: Session, said: Listener, code: str) -> None:
    pressing = press_stop_when(partial(said.hears_from, 2))
    with pytest.raises(KeyboardInterrupt, match="ranks 0-1 stopped"):
        session.run(f"print('on', flush=True)\n{code}")
    pressing.join()


def test_where_a_cell_awaits_can_be_asked(session: Session, said: Listener) -> None:
    answers: list[str] = []

    def awaits() -> bool:
        answers.append(session.where())
        return "in asyncio.tasks.sleep" in answers[-1]

    pressing = press_stop_when(awaits)
    with pytest.raises(KeyboardInterrupt):
        session.run("async def nap():\n    await asyncio.sleep(900)\nawait nap()")
    pressing.join()
    assert "line 2: `await asyncio.sleep(900)`" in answers[-1]


# -- variables


NOTEBOOK = """
class Setting:
    def __init__(self, units):
        self.units = units

def double(x):
    return 2 * x
"""


class BreaksWhenRead:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


@pytest.fixture(scope="module")
def values(session: Session) -> None:
    session.run((PROGRAMS / "pull_values.py").read_text())


@pytest.mark.usefixtures("values")
def test_what_a_cell_defined_can_be_pulled(session: Session, said: Listener) -> None:
    assert session.pull("config", rank=1).units == 7
    assert session.pull("twice")(4) == 8


@pytest.mark.usefixtures("values")
def test_a_large_array_comes_whole_and_can_be_changed(session: Session, said: Listener) -> None:
    big = session.pull("big")
    big[0] = 5.0
    assert big.sum() == np.arange(300_000.0).sum() + 5.0


@pytest.mark.usefixtures("values")
def test_a_model_comes_with_its_optimizer(session: Session, said: Listener) -> None:
    pytest.importorskip("keras")
    model = session.pull("model")
    assert np.allclose(model.predict(np.ones((1, 3)), verbose=0), session.pull("ones"))
    assert type(model.optimizer).__name__ == "SGD"
    assert int(model.optimizer.iterations) == 4


@pytest.mark.usefixtures("values")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("breaks", "breaks of rank 1 cannot be made here"),
        ("lock", "lock cannot be sent from rank 1"),
        ("nosuch", "rank 1 has no variable nosuch"),
    ],
)
def test_what_cannot_be_pulled_ends_in_a_line(
    session: Session, said: Listener, name: str, text: str
) -> None:
    with pytest.raises(EaiError, match=text) as caught:
        session.pull(name, rank=1)
    assert "\n" not in str(caught.value)


def test_a_reply_that_cannot_be_read_ends_its_request(session: Session, said: Listener) -> None:
    assert session._group is not None
    request = session._group.view([0]).apply_async(eval, "breaks", {"breaks": BreaksWhenRead()})
    with pytest.raises(Exception, match="no number"):
        request.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("rank", [-1, 2, 9])
def test_a_rank_that_is_not_there_is_named(session: Session, said: Listener, rank: int) -> None:
    with pytest.raises(EaiError, match=f"no rank {rank} in a group of 2"):
        session.pull("kept", rank=rank)
    with pytest.raises(EaiError, match=f"no rank {rank} in a group of 2"):
        session.run("kept", [rank])


def test_an_interrupted_pull_frees_the_rank(
    session: Session, said: Listener, tmp_path: Path
) -> None:
    pulled = tmp_path / "pulled"
    session.run(
        "class Slow:\n    def __reduce__(self):\n"
        f"        open({str(pulled)!r}, 'w').close()\n        time.sleep(900)\nslow = Slow()"
    )
    pressing = press_stop_when(pulled.exists)
    with pytest.raises(KeyboardInterrupt):
        session.pull("slow")
    pressing.join()  # `said` runs the next cell, which would have to wait


def test_instances_and_functions_of_the_notebook_can_be_pushed(
    session: Session, said: Listener
) -> None:
    notebook: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, notebook)  # noqa: S102
    session.push(setting=notebook["Setting"](5), double=notebook["double"])
    session.run("print(double(setting.units))")
    assert by_rank(said.everything()) == {0: ["10"], 1: ["10"]}


def test_what_cannot_be_pushed_ends_in_a_line(session: Session, said: Listener) -> None:
    with pytest.raises(EaiError, match="lock cannot be pickled"):
        session.push(fine=1, lock=threading.Lock())
    with pytest.raises(EaiError, match=r"a rank cannot take this over \(ValueError"):
        session.push(breaks=BreaksWhenRead())


# -- the end of a cell, and of processes


@pytest.mark.parametrize("code", ["exit", "quit", "exit()", "quit(3)", "raise SystemExit"])
def test_exit_ends_the_cell_and_leaves_the_ranks(
    session: Session, said: Listener, code: str
) -> None:
    with pytest.raises(RankError) as caught:
        session.run(code)
    assert type(caught.value).__name__ == "SystemExit"
    time.sleep(0.3)  # a rank that is to end does so a moment later
    assert "%eai down" in caught.value._render_traceback_()[-1]


def test_forked_children_end_when_they_are_terminated(session: Session, said: Listener) -> None:
    session.run((PROGRAMS / "forked_children.py").read_text())
    assert by_rank(said.everything()) == {rank: ["-15", "10 pools left"] for rank in range(2)}


# -- what cannot be asked on a rank


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("input('name: ')", "%eai push"),
        ("import getpass\ngetpass.getpass()", "%eai push"),
        ("breakpoint()", "%eai pull"),
        ("import pdb\npdb.set_trace()", "%eai pull"),
        ("from IPython.core.debugger import set_trace\nset_trace()\nx = 1", "%eai pull"),
        ("%debug", "%eai pull"),
    ],
)
def test_what_would_ask_is_refused_with_the_remedy(
    session: Session, said: Listener, code: str, text: str
) -> None:
    with pytest.raises(RankError):
        session.run("1 / 0")  # something for %debug to look at
    with pytest.raises(RankError, match=text) as caught:
        session.run(code)
    assert type(caught.value).__name__ == "EaiError"


def test_pdb_on_does_not_hide_the_error(session: Session, said: Listener) -> None:
    session.run("%pdb on")
    with pytest.raises(RankError) as caught:
        session.run("1 / 0")
    assert caught.value.ename == "ZeroDivisionError"
    assert "%pdb is off" in said.said["stderr"]


def test_a_result_that_cannot_be_displayed_names_its_error(
    session: Session, said: Listener
) -> None:
    with pytest.raises(RankError, match="no text") as caught:
        session.run("class R:\n    def __repr__(self):\n        raise ValueError('no text')\nR()")
    assert caught.value.ename == "ValueError"


def test_standard_input_is_empty(session: Session, said: Listener) -> None:
    session.run("import os; print(repr(os.read(0, 9)))")
    assert by_rank(said.everything()) == {0: ["b''"], 1: ["b''"]}


# -- output


def test_objects_that_differ_by_their_address_fold(session: Session, said: Listener) -> None:
    session.run("object()")
    assert said.everything() == "[0-1] <object>\n"


def test_tqdm_draws_text_that_moves(session: Session, said: Listener) -> None:
    pytest.importorskip("tqdm")
    session.run("from tqdm.auto import tqdm\nfor _ in tqdm(range(3), mininterval=0): pass")
    assert not said.shown
    assert "3/3" in said.said["stdout"] + said.said["stderr"]


def test_bytes_that_are_no_utf8_are_shown_and_end_nothing(session: Session, said: Listener) -> None:
    session.run("os.write(1, b'caf\\xe9\\n')\nprint('caf\\udce9')")
    heard = by_rank(said.everything())
    assert all(line.startswith("caf") for rank in heard for line in heard[rank])


def test_a_long_line_is_bounded(session: Session, said: Listener) -> None:
    session.run("print('x' * 5_000_000)", [0])
    heard = said.everything()
    assert len(heard) < 20_000
    path = Path(heard.strip().rpartition("is in ")[2])
    assert path.stat().st_size > 5_000_000


def test_what_one_rank_does_alone_is_for_a_cell_of_its_own(
    session: Session, said: Listener
) -> None:
    alone = "if eai.rank() == 0: collective.allreduce_numpy(np.ones(2))"
    with pytest.raises(EaiError, match="--ranks 0") as caught:
        session.run(f"import numpy as np\nfrom eai_notebook import collective\n{alone}")
    assert "rank 1 ended the cell" in str(caught.value)
