"""Environment variables that go to other hosts: known names, and nothing that looks like a secret."""

from __future__ import annotations

import os

import pytest

from eai_notebook.cluster import forwarding
from eai_notebook.cluster.forwarding import KNOWN, forwarded, looks_secret
from eai_notebook.collective.backend_registry import forwarded_names
from eai_notebook.errors import EaiError


def names(words: list[str]) -> set[str]:
    assert words[::2] == ["-x"] * (len(words) // 2)
    return set(words[1::2])


@pytest.mark.parametrize(
    "name",
    [
        "HOROVOD_TOKEN",
        "TF_API_TOKEN",
        "EAI_PASSWORD",
        "KERAS_HUB_KEY",
        "XLA_SECRET",
        "NCCL_AUTH",
        "IPP_CONNECTION_INFO",
        "AWS_SECRET_ACCESS_KEY",
        "TF_SOMETHING_NEW",
    ],
)
def test_a_known_beginning_is_not_enough(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert name not in names(forwarded({}))
    assert name not in names(forwarded({name: "x"}))


def test_settings_of_what_ranks_run_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"HOROVOD_FUSION_THRESHOLD", "TF_CPP_MIN_LOG_LEVEL", "NCCL_SOCKET_IFNAME", "XLA_FLAGS"}
    for name in chosen:
        monkeypatch.setenv(name, "1")
    assert {*chosen, "PATH", "EAI_AWAY"} <= names(forwarded({"EAI_AWAY": "1"}))


def test_no_known_name_looks_like_a_secret() -> None:
    assert not [name for name in KNOWN | forwarded_names() if looks_secret(name)]


def test_more_names_are_forwarded_if_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forwarding.MORE, "MY_SETTING, NOT_SET")
    monkeypatch.setenv("MY_SETTING", "1")
    assert "MY_SETTING" in names(forwarded({}))
    assert "NOT_SET" not in names(forwarded({}))


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "wandb_apikey", "DB_PASSWORD", "PGPASSWORD", "A=1", "-n"]
)
def test_a_secret_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(forwarding.MORE, f"OMP_PROC_BIND,{name}")
    with pytest.raises(EaiError, match=name):
        forwarded({})
    assert os.environ[forwarding.MORE].startswith("OMP")
