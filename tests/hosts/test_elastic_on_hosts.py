"""An elastic group on two hosts: a rank dies in an exchange, and another one in elastic training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from unit.session.test_elastic_group import DIE_IN_EXCHANGE, SET_UP, SUM, TRAIN, Listening

from eai_notebook.errors import EaiError
from eai_notebook.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hosts.cluster import Hosts

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]

DIE_IN_TRAINING = """
class Pause(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3 and eai.rank() == 2:
            os.kill(os.getpid(), signal.SIGKILL)

losses_True = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""

WATCHER = Listening()


@pytest.fixture(scope="module")
def session(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Two ranks on each host; the tests follow on each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAI_RUNS", str(tmp_path_factory.mktemp("runs")))
        places = ",".join(f"{name}:2" for name in hosts.names)
        with Session(hosts=places, elastic=True, watcher=WATCHER) as running:
            running.run(SET_UP, setup=True)
            yield running


def test_a_rank_dies_in_an_exchange(session: Session, hosts: Hosts) -> None:
    with pytest.raises(EaiError, match="3 of 4 ranks go on") as died:
        session.run(DIE_IN_EXCHANGE)
    assert died.value.code == "rank-died"
    assert f"rank 3 on {hosts.names[1]} died of SIGKILL" in died.value.what
    session.run(SUM)
    assert [session.pull("total", rank) for rank in range(3)] == [3.0] * 3
    assert [session.pull("kept", rank) for rank in range(3)] == [0, 10, 20]


def test_a_rank_dies_in_training(session: Session, hosts: Hosts, tmp_path: Path) -> None:
    session.run(TRAIN.format(pauses=False, folder=str(tmp_path)))
    session.run(DIE_IN_TRAINING)
    for rank in (0, 1):
        usual = session.pull("losses_False", rank)
        assert session.pull("losses_True", rank) == pytest.approx(usual, rel=1e-6)
        assert session.pull("total", rank) == 2.0
    assert f"rank 2 on {hosts.names[1]} died of SIGKILL" in WATCHER.written


def test_nobody_can_come(session: Session) -> None:
    with pytest.raises(EaiError) as refused:
        session.grow(1)
    assert refused.value.code == "cannot-grow"
