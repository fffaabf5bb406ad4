"""Which algorithm is used at which size: chosen from times, written as Open MPI reads it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from eai_notebook.cluster.allreduce_tuning.algorithm_choice import (
    AllreduceChoice,
    SizeChoice,
    _choose_one,
    _distance,
)
from eai_notebook.cluster.allreduce_tuning.openmpi_rules import (
    CANDIDATES,
    DEFAULT,
    USUAL_FRAGMENT,
    Algorithm,
    chosen_rules,
    fragment_size,
    mca_parameters,
    probe_rules,
    worth_trying,
)
from eai_notebook.horovod_build import mpi_finder

RING = Algorithm(4)
SEGMENTS = Algorithm(5, 256 << 10)


def algorithm_at(rules: str, size: int) -> tuple[int, int]:
    """Return number and segment that Open MPI takes from `rules`: the last row not above `size`."""
    _, collective, numbers, *rest = rules.splitlines()
    assert collective == "2"
    half = len(rest) // int(numbers)  # a part of the group does as the whole does
    assert rest[1:half] == rest[-half + 1 :]
    _, _, *rows = rest[-half:]
    found = [tuple(map(int, row.split())) for row in rows]
    assert found == sorted(found)
    number, _, segment = [row[1:] for row in found if row[0] <= size][-1]
    return number, segment


def test_each_candidate_has_a_size_of_its_own() -> None:
    rules = probe_rules(4, [65536, 1 << 20], 64)
    for size in (65536, 1 << 20):
        for place, candidate in enumerate(CANDIDATES):
            found = algorithm_at(rules, size + 64 * place)
            assert found == (candidate.number, candidate.segment)
    assert algorithm_at(rules, 80_000) == (0, 0)


def test_a_choice_holds_up_to_half_way_to_the_next_size() -> None:
    rules = chosen_rules(4, [(1 << 16, DEFAULT), (1 << 20, RING), (1 << 24, SEGMENTS)])
    assert algorithm_at(rules, 100) == (0, 0)
    assert algorithm_at(rules, (1 << 18) - 1) == (0, 0)
    assert algorithm_at(rules, 1 << 18) == (4, 0)
    assert algorithm_at(rules, 1 << 22) == (5, 256 << 10)
    lines = rules.splitlines()
    assert lines[2:4] == ["2", "2"]
    assert lines[3 + len(lines[3:]) // 2] == "4"


def test_what_cannot_win_is_not_tried() -> None:
    small = [CANDIDATES[place] for place in worth_trying(64 << 10, 4)]
    large = [CANDIDATES[place] for place in worth_trying(16 << 20, 4)]
    assert DEFAULT in small
    assert not any(each.segment for each in small)
    assert {each.number for each in large} == {0, 4, 5}
    assert large[0] == DEFAULT


@pytest.mark.parametrize(
    ("goodput", "size"), [(1e3, 16 << 10), (24e6, 16 << 10), (59e6, 32 << 10), (1.2e9, 1 << 20)]
)
def test_a_quicker_link_takes_larger_fragments(goodput: float, size: int) -> None:
    assert fragment_size(goodput) == size


@pytest.mark.parametrize(
    ("ring_s", "wins"), [(0.5, True), (0.94, True), (0.97, False), (2.0, False)]
)
def test_another_algorithm_must_be_clearly_quicker(ring_s: float, wins: bool) -> None:
    times = {0: 1.0, CANDIDATES.index(RING): ring_s}
    chosen = _choose_one(1 << 20, times, _distance([times]))
    assert chosen.algorithm == (RING if wins else DEFAULT)
    assert chosen.default_seconds == 1.0


def test_of_nearly_equal_ones_the_best_at_all_sizes_is_chosen() -> None:
    ring, cut = CANDIDATES.index(RING), CANDIDATES.index(SEGMENTS)
    large = {0: 2.0, ring: 1.00, cut: 1.02}
    small = {0: 2.0, ring: 1.30, cut: 1.00}
    distance = _distance([small, large])
    assert _choose_one(16 << 20, large, distance).algorithm == SEGMENTS
    assert _choose_one(16 << 20, {**large, cut: 1.1}, distance).algorithm == RING


CHOICE = AllreduceChoice(
    ranks=4,
    goodput=59.7e6,
    sizes=(
        SizeChoice(64 << 10, DEFAULT, 0.01, 0.01),
        SizeChoice(1 << 20, DEFAULT, 0.04, 0.04),
        SizeChoice(4 << 20, SEGMENTS, 0.105, 0.18),
        SizeChoice(16 << 20, SEGMENTS, 0.42, 0.8),
    ),
    measured_at=0.0,
)


def test_a_message_takes_what_the_bytes_of_the_shortest_sum_leave() -> None:
    # Six messages of a quarter of 64 kB each, which pass the link in 1.65 of the 10 ms.
    assert CHOICE.message_s == pytest.approx((0.010 - 6 * (16 << 10) / 59.7e6) / 6)


def test_a_choice_is_reported_in_lines() -> None:
    said = CHOICE.lines()
    assert "link 59.7 MB/s each way" in said[0]
    assert said[4].split() == (
        [
            "16",
            "MB",
            "59.9",
            "MB/s",
            "bus",
            "ring",
            "in",
            "segments",
            "of",
            "256",
            "kB",
            "(31.5",
            "by",
            "Open",
            "MPI's",
            "own",
            "choice)",
        ]
    )
    assert said[-1].strip() == "Horovod fuses up to 8 MB"


def test_the_user_s_own_fusion_threshold_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOROVOD_FUSION_THRESHOLD", raising=False)
    assert CHOICE.environment() == {"HOROVOD_FUSION_THRESHOLD": str(8 << 20)}
    monkeypatch.setenv("HOROVOD_FUSION_THRESHOLD", "1024")
    assert CHOICE.environment() == {"HOROVOD_FUSION_THRESHOLD": "1024", "EAI_TUNE_FUSION": "0"}
    in_a_buffer = SizeChoice(64 << 10, DEFAULT, 0.0005, 0.0005)
    assert replace(CHOICE, sizes=(in_a_buffer, *CHOICE.sizes)).fusion_threshold == 8 << 20
    quick = replace(CHOICE, sizes=CHOICE.sizes[:1])
    assert quick.fusion_threshold == 2 << 20


def test_open_mpi_knows_every_parameter_that_it_is_given() -> None:
    parameters = mca_parameters("", USUAL_FRAGMENT)
    variables = {f"OMPI_MCA_{name}": value for name, value in parameters.items()}
    known = subprocess.run(
        [str(mpi_finder.find().program("ompi_info")), "--all", "--parsable", "--level", "9"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [each for each in parameters if f":param:{each}:source:environment" not in known] == []
