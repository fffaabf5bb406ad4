"""`eai-notebook check --hosts` on real hosts: what is in order, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hosts.doors import Doors
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.cluster import listening

if TYPE_CHECKING:
    from pathlib import Path

    from hosts.cluster import Hosts

RUN = CliRunner()


@pytest.mark.ranks
@pytest.mark.slow
def test_good_hosts_sum_over_their_links(hosts: Hosts) -> None:
    programs = ("collective.self_test", "prted", "prterun", "mpirun")
    with hosts.crossing(at_least=1000), Doors(hosts, programs) as doors:
        said = RUN.invoke(app, ["check", "--json", "--hosts", ",".join(hosts.names)])
    assert said.exit_code == 0, said.output
    assert all(doors.seen.values())
    if listening.library() is not None:
        assert not any(doors.open.values()), doors.open
    checks = json.loads(said.output)["checks"]
    assert {check["name"] for check in checks} >= {f"{name} ssh" for name in hosts.names}
    assert checks[-1]["name"] == "all hosts"
    assert checks[-1]["found"].startswith("2 ranks on 2 hosts summed correctly")


def test_a_host_nobody_knows_fails_with_its_remedy(hosts: Hosts) -> None:
    names = f"{hosts.names[0]},nohost.invalid"
    said = RUN.invoke(app, ["check", "--quick", "--json", "--hosts", names])
    assert said.exit_code == 1
    (failed,) = [each for each in json.loads(said.output)["checks"] if each["state"] == "fail"]
    assert failed["name"] == "nohost.invalid ssh"
    assert "correct the name" in failed["remedy"]


def test_a_hostfile_is_read(hosts: Hosts, tmp_path: Path) -> None:
    file = tmp_path / "hostfile"
    file.write_text(f"# ours\n{hosts.names[0]} slots=2\n")
    said = RUN.invoke(app, ["check", "--quick", "--json", "--hosts", str(file)])
    assert said.exit_code == 0, said.output
    assert "2 ranks on" in said.output
