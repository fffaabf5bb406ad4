"""An elastic group in three pods: a pod is deleted in training, the first one, then a rank of another one dies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from clusters.kube_cluster import wait_until
from clusters.leftovers_of_pods import left_in_cluster
from unit.session.test_elastic_group import SET_UP, SUM, TRAIN, Listening

from eai_notebook.errors import EaiError
from eai_notebook.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]

LOSE_POD = """
class Pause(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2 and eai.rank() == 1:
            pathlib.Path({folder!r}, "ready").touch()
            while not pathlib.Path({folder!r}, "asked").exists():
                time.sleep(0.01)

losses_True = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""
LOSE_RANK = """
class Pause(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2 and eai.rank() == 0:
            os.kill(os.getpid(), signal.SIGKILL)

losses_True = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""

WATCHER = Listening()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def session(kube: KubeCluster, shared: Path) -> Iterator[Session]:
    """A group whose tests follow on each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAI_RUNS", str(shared / "runs"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(shared / "runtime"))
        pods = str(kube.job_pod_file(shared))
        with Session(3, kube=pods, elastic=True, watcher=WATCHER) as running:
            running.run(SET_UP, setup=True)
            yield running
        assert left_in_cluster(kube) == []


def test_the_others_train_on_when_the_first_pod_is_deleted(
    session: Session, kube: KubeCluster, shared: Path
) -> None:
    host = session.hosts[0]
    (pod,) = (name for name in kube.names("pods") if name.startswith(host))

    def lose() -> None:
        wait_until((shared / "ready").exists)
        kube.delete_pod(pod)
        wait_until(lambda: any("asked to end" in line for line in session.launcher.status()))
        (shared / "asked").touch()

    losing = threading.Thread(target=lose)
    session.run(TRAIN.format(pauses=False, folder=str(shared)))
    losing.start()
    session.run(LOSE_POD.format(folder=str(shared)))
    losing.join()
    for rank in (1, 2):
        usual = session.pull("losses_False", rank)
        assert session.pull("losses_True", rank) == pytest.approx(usual, rel=1e-6)
        assert session.pull("total", rank) == 2.0
    assert f"rank 0 has left: pod {pod} was" in WATCHER.written
    session.run(SUM)
    assert session.pull("kept", 2) == 20
    wait_until(lambda: pod not in kube.names("pods"))


def test_a_rank_dies_although_mpirun_went_with_the_first_pod(session: Session) -> None:
    before = len(WATCHER.written)
    session.run(LOSE_RANK)
    usual = session.pull("losses_False", 2)
    assert session.pull("losses_True", 2) == pytest.approx(usual, rel=1e-6)
    assert session.pull("total", 2) == 1.0
    assert f"rank 1 on {session.hosts[1]} died" in WATCHER.written[before:]


def test_nobody_can_come(session: Session) -> None:
    with pytest.raises(EaiError) as refused:
        session.grow(1)
    assert refused.value.code == "cannot-grow"
