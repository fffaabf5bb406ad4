"""Jobs of Slurm without a Slurm: script, environment, site file, states, lease."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.cluster.slurm_jobs import job_lease, job_queue
from eai_notebook.cluster.slurm_jobs.job_queue import GONE, JobState, parse_state, seconds
from eai_notebook.cluster.slurm_jobs.job_runner import allocation_environment
from eai_notebook.cluster.slurm_jobs.job_script import JobRequest, job_environment
from eai_notebook.cluster.slurm_jobs.node_check import Question, environment, judge
from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite, read_site
from eai_notebook.errors import EaiError


@pytest.fixture(autouse=True)
def _outside_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("EAI_SLURM_TOML", raising=False)


def answer(node: str, **changes: object) -> dict[str, object]:
    """Return what a node that is fit says of itself."""
    back = {"interface": "ib0", "address": "10.1.2.3", "netmask": "255.255.255.0"}
    return {
        "node": node,
        "python": "3.12.1",
        "versions": {"numpy": "2.1"},
        "fingerprint": "ab",
        "mpirun": True,
        "folder": True,
        "fabric": False,
        "back": back,
        **changes,
    }


QUESTION = Question(
    ("10.1.2.9", 4000),
    "/opt/env/bin/mpirun",
    "/home/me",
    4,
    {"versions": {"Python": "3.12.1", "numpy": "2.1"}, "fingerprint": "ab"},
)


def test_the_script_asks_for_what_the_user_asked_for() -> None:
    launcher = make_launcher(
        8,
        {
            "slurm": True,
            "partition": "gpu",
            "time": "2:00:00",
            "gpus_per_node": 4,
            "sbatch": "-C a100",
        },
    )
    script = launcher.describe()
    for option in ("--ntasks=8", "--ntasks-per-node=4", "--partition=gpu", "--time=2:00:00", "-C"):
        assert f"#SBATCH {option}" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "mpirun -n 8" in script


def test_nodes_times_gpus_are_the_ranks_if_no_number_is_given() -> None:
    assert make_launcher(None, {"slurm": True, "nodes": 2, "gpus_per_node": 4}).size == 8


def test_a_job_needs_a_number_of_ranks() -> None:
    with pytest.raises(EaiError) as raised:
        make_launcher(None, {"slurm": True})
    assert raised.value.code == "group-size"


def test_in_an_allocation_the_job_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_NTASKS", "6")
    assert make_launcher(None, {"slurm": True}).size == 6
    with pytest.raises(EaiError, match="12") as raised:
        make_launcher(2, {"slurm": True, "time": "1:00"})
    assert raised.value.code == "slurm-in-allocation"
    assert make_launcher(2, {}).name == "local"


def test_the_site_adds_drops_and_loads(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text(
        'options = ["--account=vision"]\ndrop = ["--no-requeue"]\nlines = ["module load a"]\n'
    )
    user.write_text('options = ["--mem=8G"]\nfolder = "~/shared"\n')
    found = read_site([site, user, tmp_path / "missing.toml"])
    assert found.options == ("--account=vision", "--mem=8G")
    assert found.lines == ("module load a",)
    assert found.folder == Path("~/shared").expanduser()
    options = JobRequest(2).options(found)
    assert options[-2:] == ["--account=vision", "--mem=8G"]
    assert "--no-requeue" not in options


@pytest.mark.parametrize("text", ["options = 3", "colour = 'red'", "options = [", "lease_s = 0"])
def test_a_site_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(text)
    with pytest.raises(EaiError, match=r"slurm\.toml") as raised:
        read_site([file])
    assert raised.value.code == "slurm-site-file"


def test_sbatch_sees_settings_and_no_secrets() -> None:
    sent = job_environment(
        {
            "HOME": "/home/me",
            "OMP_NUM_THREADS": "2",
            "SBATCH_ACCOUNT": "a",
            "EAI_FORWARD": "MINE",
            "MINE": "1",
            "HF_TOKEN": "secret",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "EDITOR": "vi",
        }
    )
    assert {"HOME", "OMP_NUM_THREADS", "SBATCH_ACCOUNT", "MINE"} <= sent.keys()
    assert "secret" not in sent.values()
    assert "EDITOR" not in sent


def test_a_step_of_the_job_does_not_hide_the_jobs_other_nodes() -> None:
    step = {"SLURM_STEP_ID": "1", "SLURM_NNODES": "1", "SLURM_TASKS_PER_NODE": "1", "TOKEN": "x"}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    found = allocation_environment({**step, **job}, 4)
    assert found["SLURM_NODELIST"] == "n[1-2]"
    assert found["SLURM_TASKS_PER_NODE"] == "2(x2)"
    assert not {"SLURM_STEP_ID", "TOKEN"} & found.keys()


def test_nodes_are_judged_one_by_one() -> None:
    answers = {
        "n1": answer("n1"),
        "n2": answer("n2", versions={"numpy": "1.9"}),
        "n3": answer("n3", back={"error": "timed out"}),
        "n4": answer("n4", folder=False),
    }
    said = "slurmstepd: error: execve(): No such file or directory\nsrun: error: n5: exited with 2"
    found = judge(["n1", "n2", "n3", "n4", "n5"], answers, QUESTION, said)
    assert [(each.host, each.topic) for each in found] == [
        ("n2", "software"),
        ("n3", "way back"),
        ("n4", "paths"),
        ("n5", "Python"),
    ]


def test_ranks_share_the_cores_that_slurm_gave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "16(x2),8")
    found = environment({name: answer(name) for name in ("n1", "n2")}, 4)
    assert found["OMP_NUM_THREADS"] == "4"  # two ranks on the node with 8
    assert "10.1.2.0/24" in found["EAI_NETWORK_ARGUMENTS"]
    assert "PRTE_MCA_ras" not in found


@pytest.mark.parametrize(
    ("text", "queued", "over"),
    [
        ("7|PENDING|Resources|||N/A|1:00:00", True, False),
        ("7|CONFIGURING|None|n1|1:00|2026-12-01T14:10:00|1:00", True, False),
        ("7|COMPLETING|None|n1|0:59|2026-12-01T14:10:00|1:00", False, False),
        ("7|NODE_FAIL|None|n1|0:59|2026-12-01T14:10:00|1:00", False, True),
        ("", False, True),
    ],
)
def test_the_state_is_read_from_squeue(text: str, queued: bool, over: bool) -> None:
    found = parse_state("7", f"8|RUNNING|None|n9|1:00|x|1:00\n{text}\n", 5.0)
    assert (found.is_queued, found.is_over) == (queued, over)
    if not text:
        assert found.state == GONE


def test_a_job_without_a_limit_has_no_time_left() -> None:
    state = JobState("7", "RUNNING", nodes="n1", left="UNLIMITED")
    assert state.words() == "RUNNING on n1"
    assert seconds("INVALID") is None


def test_the_state_survives_a_file(tmp_path: Path) -> None:
    state = JobState("7", "RUNNING", nodes="n1", left="1:00", at=3.0)
    state.write(tmp_path / "state")
    assert JobState.read(tmp_path / "state") == state
    assert JobState.read(tmp_path / "none") is None


def test_the_lease_ends_ranks_that_nobody_follows(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    file.write_text("1")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as ranks:
        assert job_lease.keep(file, 0.2, ranks.pid)
        assert ranks.wait(20) != 0


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("sbatch: fatal: Could not establish a configuration source", "slurm-silent"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", "slurm-silent"),
        ("sbatch: error: invalid partition specified: nowhere", "slurm-refused"),
    ],
)
def test_a_slurm_that_is_not_reached_is_none_that_refuses(said: str, code: str) -> None:
    done = subprocess.CompletedProcess(["sbatch"], 1, "", said)
    with pytest.raises(EaiError) as raised:
        raise job_queue.refusal(done, "--show")
    assert raised.value.code == code


def test_the_default_site_has_a_lease() -> None:
    assert SlurmSite().lease_s > 0
