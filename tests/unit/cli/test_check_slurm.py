"""Findings of `check --slurm` that need no Slurm: where a job listens."""

from __future__ import annotations

import pytest

from eai_notebook.cli.check_slurm import listens


@pytest.mark.parametrize(
    ("addresses", "open_ranks", "state", "said"),
    [
        ({"mpirun": ["10.0.0.1"], "rank": ["10.0.0.1"]}, [], "ok", "rank on 10.0.0.1"),
        ({"mpirun": [], "rank": []}, [], "ok", "nowhere"),
        ({"mpirun": ["10.0.0.1"]}, [1], "note", "ranks 1"),
    ],
)
def test_a_job_that_listens_on_all_interfaces_is_noted(
    addresses: dict[str, list[str]], open_ranks: list[int], state: str, said: str
) -> None:
    found = listens({"listens": addresses, "open_ranks": open_ranks})
    assert found.state == state
    assert said in found.found
    assert bool(found.remedy) is bool(open_ranks)
