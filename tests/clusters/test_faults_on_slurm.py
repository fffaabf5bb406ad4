"""Faults of a job, each to an end that names it and leaves nothing; ranks load no TensorFlow here."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.notebook_process import killed_at_the_end
from clusters.slurm_cluster import wait_until

from eai_notebook.cluster import host_findings, registry
from eai_notebook.cluster.group import Group
from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clusters.slurm_cluster import SlurmCluster

    from eai_notebook.cluster.launcher import Launcher

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]

PROGRAMS = Path(__file__).parent / "programs"
IN_A_JOB: dict[str, Any] = {"slurm": True, "nodes": 2, "time": "10"}


@pytest.fixture(autouse=True)
def nothing_is_left(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    slurm.wait_until_idle()
    yield
    wait_until(lambda: not slurm.jobs())
    assert left_on_nodes(slurm) == []
    assert registry.entries() == []
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).glob("eai-notebook/jobs/*"))


def launcher_of(size: int = 2, **options: Any) -> Launcher:
    return make_launcher(size, {**IN_A_JOB, **options})


def started(progress: Callable[[str], None] = lambda _words: None, **options: Any) -> Group:
    launcher = launcher_of(**options)
    launcher.prepare(progress)
    return start_group(launcher, progress)


def death(group: Group, fault: Callable[[], object]) -> str:
    """Return what the group says that it died of, after `fault`."""
    fault()
    wait_until(lambda: not group.is_alive, 100)
    words = group.death()
    group.stop()
    return words


def test_a_job_that_waits_is_described_and_cancelled_by_stop(slurm: SlurmCluster) -> None:
    blocker = slurm.fill()
    seen: list[str] = []

    def progress(words: str) -> None:
        seen.append(words)
        if "PENDING (" in words:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        started(progress)
    assert any("(Resources)" in words or "(Priority)" in words for words in seen)
    assert set(slurm.jobs()) == {blocker}
    slurm.cancel(blocker)


def test_a_job_cancelled_from_outside_is_named(slurm: SlurmCluster) -> None:
    group = started()
    (job,) = slurm.jobs()
    found = death(group, lambda: slurm.slurm("scancel", job))
    assert f"Slurm job {job} was cancelled" in found


def test_a_node_that_is_set_down_is_named(slurm: SlurmCluster) -> None:
    group = started()
    (job,) = slurm.jobs()
    nodes = slurm.slurm("squeue", "-h", "-j", job, "-o", "%N").strip()
    victim = slurm.slurm("scontrol", "show", "hostnames", nodes).split()[1]
    try:
        found = death(group, lambda: slurm.set_node(victim, "down"))
    finally:
        slurm.set_node(victim, "resume")
    assert "lost a node" in found


def test_a_preempted_job_is_named(slurm: SlurmCluster) -> None:
    group = started(partition="low")
    urgent: list[str] = []
    found = death(group, lambda: urgent.append(slurm.fill("debug")))
    assert "was preempted" in found
    slurm.cancel(urgent[0])


def test_the_time_limit_is_warned_of_and_named(slurm: SlurmCluster) -> None:
    group = started(time="12")
    assert group.launcher.notices() == []
    (job,) = slurm.jobs()
    elapsed = slurm.slurm("squeue", "-h", "-j", job, "-o", "%M").strip().split(":")
    slurm.slurm("scontrol", "update", f"jobid={job}", f"timelimit={int(elapsed[-2]) + 1}")
    notices: list[str] = []

    def warned() -> bool:
        notices.extend(group.launcher.notices())
        return bool(notices)

    wait_until(warned)
    assert f"Slurm ends job {job}" in notices[0]
    assert "reached its time limit" in death(group, lambda: None)


def test_the_default_time_limit_is_reported_and_a_rank_that_dies_is_named(
    slurm: SlurmCluster,
) -> None:
    group = started(time=None)
    assert "no --time was given: debug allows 15:00" in group.launcher.start_note()
    hosts = group.view([0, 1]).apply_sync(socket.gethostname)
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    found = death(group, lambda: group.view([1]).execute(kill, block=False))
    assert f"rank 1 on {hosts[1]} died of SIGKILL" in found


def test_nodes_without_a_way_back_are_named(slurm: SlurmCluster) -> None:
    with pytest.raises(EaiError) as raised:
        started(interface="lo")
    assert raised.value.code == "start-failed"
    assert "cannot reach this machine at 127.0.0.1" in raised.value.what
    assert any(node in raised.value.what for node in slurm.nodes)


def test_nodes_with_other_files_are_named(
    slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the notebook's machine had a later version of the package than its nodes.
    other = {**host_findings.own_software(), "fingerprint": "another"}
    monkeypatch.setattr("eai_notebook.cluster.launchers.slurm.own_software", lambda: other)
    with pytest.raises(EaiError, match="other files"):
        started()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"partition": "nowhere"}, "slurm-refused"),
        ({"size": 9, "nodes": 9}, "slurm-refused"),
        ({"nodes": 9}, "group-size"),
        ({"time": "soon"}, "slurm-refused"),
    ],
)
def test_what_slurm_would_refuse_is_refused_before_anything_starts(
    slurm: SlurmCluster, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(EaiError) as raised:
        started(**options)
    assert raised.value.code == code
    assert slurm.jobs() == {}


@pytest.mark.parametrize("crash", [False, True], ids=["notebook-killed", "machine-gone"])
def test_the_job_leaves_with_the_notebook(slurm: SlurmCluster, tmp_path: Path, crash: bool) -> None:
    site = tmp_path / "slurm.toml"
    site.write_text("lease_s = 12\n")
    with killed_at_the_end(IN_A_JOB, with_its_machine=crash, EAI_SLURM_TOML=str(site)):
        assert slurm.jobs()
    wait_until(lambda: not slurm.jobs(), 60)
    wait_until(lambda: all(entry.state == "ended" for entry in registry.entries()))
    for entry in registry.entries():
        registry.reclaim(entry)


@pytest.mark.parametrize(
    "parent",
    [[], ["srun", "-N1", "-n1"], ["srun", "-N1", "-n1", "--pty"]],
    ids=["salloc", "step", "pseudo-terminal"],
)
def test_inside_an_allocation_its_nodes_are_used(slurm: SlurmCluster, parent: list[str]) -> None:
    program = [sys.executable, str(PROGRAMS / "group_in_an_allocation.py")]
    allocation = ["salloc", "-N2", "--ntasks-per-node=1", "-t", "10"]
    done = slurm.slurm(*allocation, *parent, *program, check=False)
    assert "size 2 on 2 hosts" in done
    assert "without --slurm on 1 hosts" in done


def test_a_kept_group_is_attached_to_and_reclaimed(slurm: SlurmCluster) -> None:
    group = started()
    group.keep()
    name = group.entry.name
    group.view([0, 1]).execute("secret = 41", block=True)
    group.leave()
    entry = registry.find(name)
    assert entry.state == "kept"
    assert "slurm from" in registry.table([entry])
    again = Group.attach(entry, make_launcher(entry.size, entry.options, entry.launcher))
    assert again.view([1]).pull("secret", block=True) == [41]
    assert "RUNNING" in again.launcher.status()[0]
    again.leave()
    assert registry.reclaim(registry.find(name)) > 0
