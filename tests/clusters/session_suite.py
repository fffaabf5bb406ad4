"""Tests of a session that hold on every cluster.

`test_session_on_slurm.py` and `test_session_on_kube.py` run them, each with a `place` and a `cluster` of its own.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import unit.session.test_session as local
from unit.session.test_session import listener, said, session  # noqa: F401  fixtures

from eai_notebook.cluster.client import connection_file
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eai_notebook.session import Session

TRAINING = """
import keras, numpy as np
x = np.random.default_rng(1).normal(size=(64, 8)).astype('float32')
y = x.sum(1, keepdims=True)
def model():
    keras.utils.set_random_seed(5)
    made = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, 'tanh'),
                             keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(0.1), 'mse')
    return made
def batches(rank, size):
    for begin in range(0, 64, 16):
        part = slice(begin + 16 // size * rank, begin + 16 // size * (rank + 1))
        yield x[part], y[part]
both = model(); both.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.1)), 'mse')
for _ in range(3):
    for a, b in batches(eai.rank(), eai.size()): both.train_on_batch(a, b)
alone = model()
for _ in range(3):
    for a, b in batches(0, 1): alone.train_on_batch(a, b)
apart = max(float(np.abs(a - b).max() / np.abs(b).max())
            for a, b in zip(both.get_weights(), alone.get_weights()))
"""


class Cluster(Protocol):
    """What the tests ask of a cluster."""

    def jobs(self) -> Iterable[str]:
        """Return the names of the jobs that there are."""

    def published(self) -> list[str]:
        """Return what others may read of the jobs."""


@local.every_launcher
def test_as_on_this_machine(same: Any, session: Session, said: local.Listener) -> None:  # noqa: F811
    same(session, said)


def test_an_interrupt_reaches_the_ranks(session: Session, said: local.Listener) -> None:  # noqa: F811
    local.test_an_interrupt_ends_the_cell(session, said, "import time; time.sleep(60)")


def test_each_rank_is_on_a_machine_of_its_own(session: Session) -> None:  # noqa: F811
    assert len(set(session.hosts.values())) == 2


def test_training_is_that_of_a_single_process(session: Session) -> None:  # noqa: F811
    session.run(TRAINING)
    assert session.pull("apart") < 1e-5


def test_no_key_is_published_or_in_an_argument_or_an_environment(
    session: Session,  # noqa: F811
    cluster: Cluster,
) -> None:
    assert session._group is not None
    known = json.loads(connection_file(session._group.entry).read_text())
    keys = [known[name] for name in ("curve_serverkey", "curve_publickey", "curve_secretkey")]
    texts = cluster.published()
    for process in Path("/proc").glob("[0-9]*"):  # those of all nodes, too
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has ended
                texts.append((process / what).read_text(errors="replace"))
    assert not [key for key in keys for text in texts if key in text]


def test_nothing_of_the_notebooks_environment_goes_along_by_chance(session: Session) -> None:  # noqa: F811
    session.run("import os; names = sorted(os.environ)")
    assert "PYTEST_CURRENT_TEST" not in session.pull("names", rank=1)


def test_a_rank_that_dies_ends_the_cell_and_a_restart_is_another_job(
    session: Session,  # noqa: F811
    cluster: Cluster,
) -> None:
    before, machine = set(cluster.jobs()), session.hosts[1]
    assert before
    with pytest.raises(EaiError, match=rf"rank 1 on {machine} died of SIGKILL") as raised:
        session.run(
            "import os, signal\n"
            "if collective.rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
            "collective.barrier()"
        )
    assert raised.value.code == "group-lost"
    session.restart()
    after = set(cluster.jobs())
    assert after
    assert after.isdisjoint(before)
    session.run("print(eai.size())")


def test_parameter_servers_train(session: Session, said: local.Listener) -> None:  # noqa: F811
    session.serve(1)
    session.run("from eai_notebook import parameter_servers as servers")
    session.run("print(servers.current().layout.servers)", [0])
    assert "(0,)" in said.everything()
