"""There is one version, and every manifest carries it."""

from __future__ import annotations

import json

import pytest
from paths import REPOSITORY

import eai_notebook

ROOT = REPOSITORY


def test_front_end_carries_the_version_of_the_package() -> None:
    manifest = ROOT / "labextension" / "package.json"
    assert json.loads(manifest.read_text())["version"] == eai_notebook.__version__


@pytest.mark.parametrize("name", ["CHANGELOG.md"])
def test_document_speaks_of_this_version(name: str) -> None:
    assert f"## {eai_notebook.__version__}" in (ROOT / name).read_text()
