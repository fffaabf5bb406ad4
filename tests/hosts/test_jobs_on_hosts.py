"""`eai-notebook run --hosts`: the notebook's kernel is here, its ranks are on other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.jobs.job_folder import Job

if TYPE_CHECKING:
    from pathlib import Path

    from hosts.cluster import Hosts

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def test_the_ranks_of_a_notebook_run_on_the_hosts_that_are_given(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    where = "%%distributed\nimport socket, own\nprint('on', socket.gethostname(), own.x)"
    cells = ["%load_ext eai_notebook\n%eai up -n 1", where, "%eai down"]
    (tmp_path / "own.py").write_text("x = 41\n")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, tmp_path / "where.ipynb")
    given = ",".join(f"{name}:1" for name in hosts.names)
    done = CliRunner().invoke(app, ["run", "where.ipynb", "--hosts", given, "--out", "out"])
    assert done.exit_code == 0, done.output
    for rank, host in enumerate(hosts.names):
        assert f"[{rank}] on {host} 41" in done.output
    result = Job.read(tmp_path / "out").result
    assert result is not None
    assert result.state == "done"
