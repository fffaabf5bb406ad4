"""What is wrong with a host is found before ranks start on it, and reported with its remedy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eai_notebook.cluster import preflight
from eai_notebook.cluster.hostfile import Host
from eai_notebook.cluster.preflight import inspect_hosts, prepare
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from hosts.cluster import Hosts


def places(hosts: Hosts) -> tuple[Host, ...]:
    return tuple(Host(name, 2) for name in hosts.names)


def test_two_good_hosts_are_placed(hosts: Hosts) -> None:
    survey = inspect_hosts(places(hosts))
    assert survey.failures == []
    assert survey.placement is not None
    assert survey.placement.controller == hosts.desk_address
    assert survey.placement.networks == (hosts.subnet,)
    assert survey.placement.size == 4
    topics = [finding.topic for finding in survey.findings if finding.host == hosts.names[0]]
    assert topics == ["ssh", "software", "paths", "way back", "slots", "clock"]
    clock = survey.findings[-1].found
    assert abs(float(clock.split()[0])) < 100  # the hosts share this machine's clock


def test_an_interface_is_taken_by_name_address_or_network(hosts: Hosts) -> None:
    for named in (hosts.desk_address, hosts.subnet):
        assert prepare(places(hosts)[:1], named).controller == hosts.desk_address
    with pytest.raises(EaiError, match="no interface eth77"):
        prepare(places(hosts), "eth77")


def test_a_name_that_nobody_knows_is_a_clear_error(hosts: Hosts) -> None:
    with pytest.raises(EaiError, match=r"nohost\.invalid: cannot be reached by ssh") as caught:
        prepare((*places(hosts), Host("nohost.invalid", 1)))
    assert "correct the name" in caught.value.remedy
    assert hosts.names[0] not in caught.value.what


def test_a_host_that_is_off_is_a_clear_error(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eai_notebook.cluster.remote_python.CONNECT_S", 1)
    hosts.cut(hosts.names[1])
    try:
        with pytest.raises(EaiError, match=f"{hosts.names[1]}: cannot be reached by ssh") as caught:
            prepare(places(hosts))
    finally:
        hosts.mend(hosts.names[1])
    assert "without a password" in caught.value.remedy


def test_a_host_with_another_version_is_a_clear_error(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "keras-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: keras\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(preflight.__file__).parents[2]}")
    with pytest.raises(EaiError, match=r"it has keras 1\.0 \(here \d") as caught:
        prepare(places(hosts))
    assert "constraints.txt" in caught.value.remedy


def test_a_host_without_our_python_is_a_clear_error(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EaiError, match="there is no /nowhere/python"):
        prepare(places(hosts))


def test_a_host_that_finds_no_way_back_is_a_clear_error(hosts: Hosts) -> None:
    with pytest.raises(EaiError, match=r"it cannot reach this machine at 127\.0\.0\.1") as caught:
        prepare(places(hosts), "lo")
    assert "--interface" in caught.value.remedy
