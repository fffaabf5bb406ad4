"""The magics in a real kernel: one notebook is executed once, then its cells are checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nbformat
import psutil
import pytest
from kernel_sockets import execute_notebook
from rank_output import by_rank
from waiting import PATIENCE_S

if TYPE_CHECKING:
    from conftest import PreloadedRanks

pytestmark = pytest.mark.ranks

CELLS = {
    "load": "%load_ext eai_notebook",
    "status before": "%eai status",
    "report before": "%eai report",
    "pull before": "%eai pull x",
    "no ranks": "%eai up -n 0",
    "up": "%eai up -n 2",
    "up again": "%eai up",
    "setup": "%%distributed --setup\nimport os\nimport eai_notebook as eai\nprint('loaded')",
    "status": "%eai status",
    "list": "%eai list",
    "where": "%eai where",
    "make": "%%distributed\nx = {'a': eai.rank() // 1, 'b': 1}",
    "name of the ranks": "x",
    "name of nobody": "xyz",
    "diff": "%eai diff x",
    "syntax": "%%distributed\nx = 1\ny = 1 +",
    "bad ranks": "%%distributed --ranks 0,7\npass",
    "bad option": "%%distributed --nothing\npass",
    "error": "%%distributed\nfrom eai_notebook import collective\n"
    "if eai.rank() == 1: raise ValueError('row 7')\ncollective.barrier()",
    "after error": "%%distributed\nprint(collective.size())",
    "one rank": "%%distributed --ranks 1\nalone = os.environ['OMPI_COMM_WORLD_RANK']",
    "pull": "%eai pull alone --rank 1",
    "pull nothing": "%eai pull nosuch",
    "pull from nowhere": "%eai pull alone --rank 9",
    "await": "%%distributed\nimport asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')",
    "pulled": "alone",
    "push": "here = {'a': 3}\n%eai push here",
    "pushed": "%%distributed\nprint(here)",
    "push nothing": "%eai push nowhere",
    "threads": "%%distributed\nprint(os.environ['OMP_NUM_THREADS'], os.environ['TF_NUM_INTRAOP_THREADS'])",
    "unknown": "%eai bogus",
    "help": "%eai --help",
    "help up": "%eai up --help",
    "completion": "ip = get_ipython()\n"
    "sorted(ip.complete('', '%eai ', 5)[1]), ip.complete('--', '%%distributed --', 16)[1]",
    "flags": "print(sorted(ip.complete('-', '%eai up -', 9)[1]))",
    "no tensorflow here": "import sys\n'tensorflow' in sys.modules",
    "pids": "import psutil\n[child.pid for child in psutil.Process().children(recursive=True)]",
    "restart": "%eai restart",
    "replayed": "%%distributed\nprint(eai.size())",
    "down": "%eai down",
    "down again": "%eai down",
    "up servers": "%eai up -n 2 --mode ps --servers 2",
    "servers": "%%distributed\nfrom eai_notebook import parameter_servers as servers\n"
    "print(servers.current().layout.servers)",
    "down servers": "%eai down",
    "on demand": "%%distributed\nimport eai_notebook\nprint(eai_notebook.size())",
    "bad record": "%eai report /nowhere",
}


@pytest.fixture(scope="module")
def cells(
    tmp_path_factory: pytest.TempPathFactory, preloaded_ranks: PreloadedRanks
) -> dict[str, Any]:
    """Execute the notebook in a folder of its own; errors are kept as outputs."""
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    )
    folder = tmp_path_factory.mktemp("notebook")
    with preloaded_ranks():
        execute_notebook(book, folder, timeout=PATIENCE_S, allow_errors=True)
    return dict(zip(CELLS, book.cells, strict=True))


def text(cell: Any) -> str:
    """All a reader sees of a cell's outputs, without colours."""
    seen = ""
    for output in cell.outputs:
        if output.output_type == "stream":
            seen += output.text
        elif output.output_type == "error":
            seen += "\n".join(output.traceback)
        else:
            seen += output.data.get("text/plain", "") + "\n"
    return re.sub(r"\x1b\[[0-9;]*m", "", seen)


def error(cell: Any) -> tuple[str, str]:
    found = [output for output in cell.outputs if output.output_type == "error"]
    assert len(found) == 1, text(cell)
    return found[0].ename, found[0].evalue


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("status before", "no group is running; start one with `%eai up`"),
        ("up", "2 ranks are up"),
        ("pulled", "'1'"),
        ("help", "restart   end the group"),
        ("help up", "-n N"),
        ("completion", "'restart',\n  'shrink',\n  'status'"),
        ("completion", "['--patience', '--ranks', '--restart', '--setup']"),
        ("flags", "'--keep', '--kube', '--launcher', '--least', '--measure-again'"),
        ("flags", "'--sbatch', '--servers', '--show', '--slurm', '--time'"),
        ("list", "in use"),
        ("where", "ranks 0-1: between cells"),
        ("diff", "`x['a']` of rank 1 differs from rank 0: max abs difference 1, 1 of 1 values"),
        ("name of the ranks", "`%eai pull x` brings it here"),
        ("restart", "1 set-up cell replayed"),
        ("no tensorflow here", "False"),
        ("down", "the group is down"),
        ("down again", "no group is running"),
        ("on demand", "ranks are up"),
    ],
)
def test_a_cell_prints(cells: dict[str, Any], name: str, expected: str) -> None:
    assert expected in text(cells[name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("setup", "loaded"),
        ("after error", "2"),
        ("pushed", "{'a': 3}"),
        ("await", "awaited"),
        ("replayed", "2"),
        ("servers", "(0, 1)"),
    ],
)
def test_every_rank_prints(cells: dict[str, Any], name: str, expected: str) -> None:
    assert by_rank(text(cells[name])) == {0: [expected], 1: [expected]}


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("report before", "no run is recorded yet"),
        ("pull before", "no group is running: start one with `%eai up`"),
        ("no ranks", "a group of 0 ranks is not possible: ask for 1 or more: `-n 2`"),
        ("up again", "already up: use it, or end it first with `%eai down`"),
        ("syntax", "invalid syntax in line 2 of the cell, `y = 1 +`: correct it"),
        ("bad ranks", "there is no rank 7 in a group of 2: choose from 0-1"),
        ("push nothing", "no variable nowhere"),
        ("pull nothing", "rank 0 has no variable nosuch"),
        ("pull from nowhere", "there is no rank 9 in a group of 2"),
        ("bad record", "is not a run record"),
        ("unknown", "`%eai bogus`"),
        ("bad option", "--nothing"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(cells: dict[str, Any], name: str, fact: str) -> None:
    ename, evalue = error(cells[name])
    assert ename == "EaiError"
    assert fact in evalue
    assert re.fullmatch(r"EaiError \[[a-z-]+\]: (.*)", text(cells[name]).strip())[1] == evalue  # type: ignore[index]


def test_a_name_that_nobody_knows_has_no_hint(cells: dict[str, Any]) -> None:
    assert "%eai" not in text(cells["name of nobody"])


def test_an_error_on_a_rank_is_the_cells_error(cells: dict[str, Any]) -> None:
    assert error(cells["error"]) == ("ValueError", "row 7")
    shown = text(cells["error"])
    assert shown.startswith("rank 1 (first: rank 1 on ")
    assert "----> 2 if eai.rank() == 1: raise ValueError('row 7')" in shown
    assert shown.endswith("rank 0 was waiting in a collective, and released.")


def test_status_names_every_rank(cells: dict[str, Any]) -> None:
    assert re.search(r"rank 0  \S+  pid \d+\n  rank 1  \S+  pid \d+", text(cells["status"]))
    assert re.search(r"listening: .*controller on 127.0.0.1", text(cells["status"]))


def test_the_cores_are_shared_out(cells: dict[str, Any]) -> None:
    import os

    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert by_rank(text(cells["threads"])) == {0: [f"{share} {share}"], 1: [f"{share} {share}"]}


def test_nothing_is_left_running(cells: dict[str, Any]) -> None:
    pids = [int(number) for number in re.findall(r"\d+", text(cells["pids"]))]
    assert len(pids) >= 4
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_the_notebook_keeps_no_progress_lines(cells: dict[str, Any]) -> None:
    assert len(cells["up"].outputs) == 1
    assert "\r" not in text(cells["up"])
