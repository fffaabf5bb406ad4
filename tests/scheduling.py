"""Which tests run one after another, in one worker, when pytest-xdist runs tests side by side.

Those of a file do, since they share what its fixtures start. So do those of a folder that stands
for one machine's worth of things: the test hosts, a JupyterLab with its browser, a cluster; and those
of file formats, whose decoders are compiled once. Drills have a group of ranks for each size.
Worked notebooks share nothing.
"""

from __future__ import annotations

import re
from typing import Final

from xdist.scheduler.loadfile import LoadFileScheduling

FOLDERS: Final = ("tests/browser/", "tests/clusters/", "tests/hosts/")
_TOGETHER: Final = (*FOLDERS, "tests/unit/formats/")
_NOTEBOOKS: Final = "tests/unit/test_notebooks.py"
_DRILLS: Final = re.compile(r"tests/drills/.*\[(\d+ ranks)")


def unit_of(nodeid: str) -> str:
    """Return what a test runs in one worker with.

    Examples:
        >>> unit_of("tests/unit/io/test_batch.py::test_a_batch[2]")
        'tests/unit/io/test_batch.py'
        >>> unit_of("tests/hosts/test_lost.py::test_a_lost_host")
        'tests/hosts/'
        >>> unit_of("tests/unit/formats/parquet/test_bits.py::test_nulls")
        'tests/unit/formats/'
        >>> unit_of("tests/drills/test_drills.py::test_a_fault[4 ranks-exit]")
        'tests/drills/ 4 ranks'
        >>> unit_of("tests/unit/test_notebooks.py::test_quickstart")
        'tests/unit/test_notebooks.py::test_quickstart'
    """
    if nodeid.startswith(_NOTEBOOKS):
        return nodeid
    for folder in _TOGETHER:
        if nodeid.startswith(folder):
            return folder
    if size := _DRILLS.match(nodeid):
        return f"tests/drills/ {size[1]}"
    return nodeid.split("::", 1)[0]


class UnitScheduling(LoadFileScheduling):
    """Gives each worker whole units of tests, those with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
