"""The tests of a local session, on two hosts: only the place of the group is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import unit.session.test_session as local
from unit.session.test_session import listener, said, session  # noqa: F401  fixtures

if TYPE_CHECKING:
    from hosts.cluster import Hosts

    from eai_notebook.session import Session

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture(scope="module")
def place(hosts: Hosts) -> dict[str, Any]:
    return {"hosts": ",".join(f"{name}:1" for name in hosts.names)}


@pytest.fixture(autouse=True)
def alive(session: Session) -> None:  # noqa: F811
    """Start a group again that an earlier test has lost: one failure is one."""
    session.run("pass", restart=True)


@local.every_launcher
def test_on_hosts(same: Any, session: Session, said: local.Listener) -> None:  # noqa: F811
    same(session, said)


def test_an_interrupt_reaches_other_hosts(session: Session, said: local.Listener) -> None:  # noqa: F811
    local.test_an_interrupt_ends_the_cell(session, said, "import time; time.sleep(60)")


def test_each_rank_is_on_its_host(session: Session, hosts: Hosts) -> None:  # noqa: F811
    assert [session.hosts[rank] for rank in (0, 1)] == hosts.names


def test_gradients_cross_the_links(session: Session, hosts: Hosts) -> None:  # noqa: F811
    with hosts.crossing(at_least=4 * 1_000_000):
        session.run("collective.allreduce_numpy(np.ones(1_000_000, 'float32'))")


def test_the_controller_listens_on_one_interface_and_encrypts(
    session: Session,  # noqa: F811
    hosts: Hosts,
) -> None:
    assert session._group is not None
    files = session._group._cluster.controller.connection_files
    connection = json.loads(Path(files["client"]).read_text())
    assert connection["interface"] == f"tcp://{hosts.desk_address}"
    assert len(connection["curve_serverkey"]) == 40
