"""Fixtures: test hosts, or a line that says why there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hosts.cluster import Hosts, why_not

from eai_notebook.cluster.allreduce_tuning import algorithm_choice

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Give two hosts with links of 500 Mbit/s, and ssh that reaches them."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Hosts(2, rate_mbit=500) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment().items():
            patch.setenv(name, value)
        patch.setattr(algorithm_choice, "BUDGET_S", 1.0)
        yield made
