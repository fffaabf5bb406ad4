"""The tests of a local session, in pods of Kubernetes on two nodes: only the place is another."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import unit.session.test_session as local
from clusters.leftovers_of_pods import left_in_cluster
from unit.session.test_session import listener, said, session  # noqa: F401  fixtures

from eai_notebook.cluster.client import connection_file
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from clusters.kube_cluster import KubeCluster

    from eai_notebook.session import Session

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture(scope="module")
def place(kube: KubeCluster) -> dict[str, Any]:
    # The scheduler puts the pods of a job on different nodes by itself; here it has to.
    apart = {
        "labelSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "eai-notebook"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    return {"size": 2, "kube": str(kube.pod_file(spec={"affinity": affinity}))}


@local.every_launcher
def test_in_pods(same: Any, session: Session, said: local.Listener) -> None:  # noqa: F811
    same(session, said)


def test_an_interrupt_reaches_the_pods(session: Session, said: local.Listener) -> None:  # noqa: F811
    local.test_an_interrupt_ends_the_cell(session, said, "import time; time.sleep(60)")


def test_each_rank_is_in_a_pod_of_its_own_and_the_status_names_both(
    session: Session,  # noqa: F811
    kube: KubeCluster,
) -> None:
    assert len(set(session.hosts.values())) == 2
    job, *pods = session.launcher.status()
    assert kube.names("jobs") == [job.split()[-1]]
    assert [line.split(": ")[1] for line in pods] == ["Running", "Running"]
    found = kube.api("GET", "/api/v1/namespaces/ranks/pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in found} == set(kube.nodes)


def test_training_is_that_of_a_single_process(session: Session) -> None:  # noqa: F811
    session.run(
        "import keras, numpy as np\n"
        "x = np.random.default_rng(1).normal(size=(64, 8)).astype('float32')\n"
        "y = x.sum(1, keepdims=True)\n"
        "def model():\n"
        "    keras.utils.set_random_seed(5)\n"
        "    made = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, 'tanh'),\n"
        "                             keras.layers.Dense(1)])\n"
        "    made.compile(keras.optimizers.SGD(0.1), 'mse')\n"
        "    return made\n"
        "def batches(rank, size):\n"
        "    for begin in range(0, 64, 16):\n"
        "        part = slice(begin + 16 // size * rank, begin + 16 // size * (rank + 1))\n"
        "        yield x[part], y[part]\n"
        "both = model(); both.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.1)), 'mse')\n"
        "for _ in range(3):\n"
        "    for a, b in batches(eai.rank(), eai.size()): both.train_on_batch(a, b)\n"
        "alone = model()\n"
        "for _ in range(3):\n"
        "    for a, b in batches(0, 1): alone.train_on_batch(a, b)\n"
        "apart = max(float(np.abs(a - b).max() / np.abs(b).max())\n"
        "            for a, b in zip(both.get_weights(), alone.get_weights()))"
    )
    assert session.pull("apart") < 1e-5


def test_no_key_is_in_a_manifest_an_argument_or_an_environment(
    session: Session,  # noqa: F811
    kube: KubeCluster,
) -> None:
    assert session._group is not None
    known = json.loads(connection_file(session._group.entry).read_text())
    keys = [known[name] for name in ("curve_serverkey", "curve_publickey", "curve_secretkey")]
    texts = [json.dumps(kube.api("GET", "/api/v1/namespaces/ranks/pods"))]
    for process in Path("/proc").glob("[0-9]*"):
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has ended
                texts.append((process / what).read_text(errors="replace"))
    assert not [key for key in keys for text in texts if key in text]


def test_nothing_of_the_notebooks_environment_goes_along_by_chance(session: Session) -> None:  # noqa: F811
    session.run("import os; names = sorted(os.environ)")
    assert "PYTEST_CURRENT_TEST" not in session.pull("names", rank=1)


def test_a_rank_that_dies_ends_the_cell_and_a_restart_is_another_job(
    session: Session,  # noqa: F811
    kube: KubeCluster,
) -> None:
    (before,) = kube.names("jobs")
    pod = session.hosts[1]
    with pytest.raises(EaiError, match=rf"rank 1 on {pod} died of SIGKILL") as raised:
        session.run(
            "import os, signal\n"
            "if collective.rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
            "collective.barrier()"
        )
    assert raised.value.code == "group-lost"
    session.restart()
    assert before not in kube.names("jobs")
    session.run("print(eai.size())")


def test_parameter_servers_train_in_pods(session: Session, said: local.Listener) -> None:  # noqa: F811
    session.serve(1)
    session.run("from eai_notebook import parameter_servers as servers")
    session.run("print(servers.current().layout.servers)", [0])
    assert "(0,)" in said.everything()


def test_down_leaves_no_job_no_pod_no_secret(session: Session, kube: KubeCluster) -> None:  # noqa: F811
    session.down()
    assert left_in_cluster(kube) == []
