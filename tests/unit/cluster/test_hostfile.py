"""Hosts as users name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.cluster.hostfile import Host, parse_hosts
from eai_notebook.errors import EaiError
from eai_notebook.session import Session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("h1:2,h2:3", [("h1", 2), ("h2", 3)]),
        ("h1", [("h1", 1)]),
        (" gpu-1.lab:8 , me@10.0.0.7:4", [("gpu-1.lab", 8), ("me@10.0.0.7", 4)]),
    ],
)
def test_a_list_is_read(text: str, hosts: list[tuple[str, int]]) -> None:
    assert parse_hosts(text) == tuple(Host(*host) for host in hosts)


def test_a_hostfile_is_read(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# the lab\nh1 slots=2\nh2:3  # new\n\nh3\n")
    assert parse_hosts(str(file)) == (Host("h1", 2), Host("h2", 3), Host("h3", 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h1:two", "`h1:two` is no host"),
        ("-oProxyCommand=x", "is no host"),
        ("h1,--help:2", "`--help:2` is no host"),
        ("fe80::1", "IPv4"),
        ("[2001:db8::7]:2", "IPv4"),
        ("::1:4", "IPv4"),
        ("h1:2,h1:2", "h1 is named twice"),
        ("h1:0", "h1 gets no rank"),
        ("h1:99999999999", "h1 gets 99,999,999,999 ranks"),
        ("a;touch x:1", "is no host"),
        ("$(id):1", "is no host"),
        ("h1,,h2", "`` is no host"),
        ("-oProxyCommand=id:2", "`-oProxyCommand=id:2` is no host"),
        ("h1,-F:2", "`-F:2` is no host"),
        ("./nowhere", "there is no hostfile ./nowhere"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, says: str) -> None:
    with pytest.raises(EaiError) as caught:
        parse_hosts(text)
    assert says in caught.value.what


def test_a_number_that_contradicts_the_slots_is_refused() -> None:
    with pytest.raises(EaiError, match="3 ranks were asked for, but the hosts have 4 slots"):
        Session(3, hosts="h1:2,h2:2")
