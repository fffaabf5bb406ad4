"""The choice of a ring on real links: measured, kept, applied, and honest when a host goes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil
import pytest
from hosts.cluster import pids_on
from hosts.doors import Doors
from waiting import do_when

from eai_notebook.cluster import listening
from eai_notebook.cluster.allreduce_tuning import algorithm_choice
from eai_notebook.cluster.hostfile import Host
from eai_notebook.cluster.preflight import Placement, prepare
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from hosts.cluster import Hosts

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PROGRAMS = ("allreduce_tuning.benchmark", "prted", "prterun", "mpirun")


@pytest.fixture(scope="module")
def place(hosts: Hosts) -> Placement:
    return prepare([Host(name, 1) for name in hosts.names])


def test_a_link_is_measured_once_and_the_choice_applied(
    hosts: Hosts, place: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algorithm_choice, "BUDGET_S", 1.0)
    said: list[str] = []
    with hosts.crossing(at_least=20e6), Doors(hosts, PROGRAMS) as doors:
        choice = algorithm_choice.choose(place, said.append, again=True)
    assert choice is not None
    assert all(doors.seen.values())
    if listening.library() is not None:
        assert not any(doors.open.values()), doors.open
    assert said == ["measuring the link between 2 hosts, about 6 s"]
    # 62.5 MB/s less TCP's and Ethernet's headers; less where the machine is busy
    assert 0 < choice.goodput < 62.5e6
    assert [each.size for each in choice.sizes] == list(algorithm_choice.SIZES)
    assert all(each.seconds <= each.default_seconds for each in choice.sizes)
    before = hosts.counters()
    assert algorithm_choice.choose(place, said.append) == choice
    assert len(said) == 1
    assert hosts.counters()[hosts.names[0]][0] - before[hosts.names[0]][0] < 100_000
    applied = algorithm_choice.apply(place, choice)
    assert applied["coll_tuned_use_dynamic_rules"] == "1"
    assert int(applied["btl_tcp_rdma_pipeline_frag_size"]) in (16 << 10, 32 << 10)


def test_a_host_lost_while_measuring_is_named(
    hosts: Hosts, place: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algorithm_choice, "LINK_S", 60.0)
    away = hosts.names[1]
    cut = do_when(lambda: measures(away), lambda: hosts.cut(away))
    try:
        with pytest.raises(EaiError, match="measuring the link between the hosts failed") as caught:
            algorithm_choice.choose(place, print, again=True)
    finally:
        cut.join()
        hosts.mend(away)
    assert away in caught.value.what
    assert len(pids_on(hosts.names[0])) < 10


def measures(host: str) -> bool:
    """Return whether a rank of the measurement runs on a host."""
    for pid in pids_on(host):
        with contextlib.suppress(psutil.NoSuchProcess):
            if PROGRAMS[0] in " ".join(psutil.Process(pid).cmdline()):
                return True
    return False


def test_one_host_has_no_choice(place: Placement) -> None:
    alone = Placement(
        hosts=place.hosts[:1],
        controller=place.controller,
        networks=place.networks,
        cores=place.cores,
        fabric=False,
        here=place.here,
    )
    assert algorithm_choice.choose(alone, print) is None
