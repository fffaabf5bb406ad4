"""The exchanges between ranks, alone and in a ring of two and three."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eai_notebook import collective
from eai_notebook.collective import ops
from eai_notebook.errors import EaiError

RunRanks = Callable[..., list[Any]]


def test_without_a_ring_every_exchange_is_the_identity() -> None:
    assert (collective.rank(), collective.size()) == (0, 1)
    assert not collective.is_formed()
    assert collective.broadcast_object({"a": 1}) == {"a": 1}
    assert collective.allreduce_numpy(np.arange(3)).tolist() == [0, 1, 2]
    assert collective.clock_offset() == (0.0, 0.0)


def test_asking_for_the_rank_loads_neither_tensorflow_nor_horovod() -> None:
    code = (
        "import sys, eai_notebook as eai; assert eai.rank() == 0; "
        "assert not {'tensorflow', 'horovod', 'mpi4py'} & set(sys.modules), 'too much loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_under_mpirun_knows_its_rank_before_anything_forms_the_ring(
    run_ranks: RunRanks,
) -> None:
    code = "import eai_notebook as eai\nreport([eai.rank(), eai.size(), eai.local_rank()])"
    assert run_ranks(code, n=2) == [[0, 2, 0], [1, 2, 1]]


def test_ranks_in_different_exchanges_are_named(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        """
        import numpy as np
        from eai_notebook import collective
        from eai_notebook.errors import EaiError
        collective.ensure_formed()
        found = []
        for one, other in [(np.ones(3), np.ones(4)), (np.ones(2), np.ones(2, int))]:
            try:
                collective.allreduce_numpy(one if collective.rank() else other)
            except EaiError as error:
                found.append([error.code, error.what])
        report(found)
        """,
        n=2,
    )
    for found in reports:
        assert [code for code, _ in found] == ["exchanges-differ"] * 2
        assert "shapes" in found[0][1]
        assert "data types" in found[1][1]


def test_exchanges_in_a_ring_of_three(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        """
        import numpy as np
        from eai_notebook import collective
        collective.ensure_formed()
        import tensorflow as tf
        r = collective.rank()
        variables = [tf.Variable([float(r)] * 2), tf.Variable(r + 5, dtype=tf.uint32)]
        collective.broadcast_variables(variables, root=1)
        mean = tf.function(lambda x: collective.allreduce(x, "m"))(tf.constant([r * 3.0]))
        report({
            "rank": r, "size": collective.size(), "local_size": collective.local_size(),
            "mean": mean.numpy().tolist(),
            "half": collective.allreduce(tf.cast([r], tf.bfloat16), "h", average=False)
                .numpy().astype(float).tolist(),
            "rows": collective.allgather(tf.fill([r, 1], r), "g").numpy().ravel().tolist(),
            "largest": collective.allreduce_numpy(np.array([r, -r]), largest=True).tolist(),
            "object": collective.broadcast_object({"from": r}, root=2),
            "table": collective.gather_numpy(np.array([r, 10 * r])).tolist(),
            "variables": [v.numpy().tolist() for v in variables],
            "offset": collective.clock_offset(),
        })
        """,
        3,
    )
    assert [r["rank"] for r in reports] == [0, 1, 2]
    for r in reports:
        assert (r["size"], r["local_size"]) == (3, 3)
        assert r["mean"] == [3.0]
        assert r["half"] == [3.0]
        assert r["rows"] == [1, 2, 2]
        assert r["largest"] == [2, 0]
        assert r["object"] == {"from": 2}
        assert r["table"] == [[0, 0], [1, 10], [2, 20]]
        assert r["variables"] == [[1.0, 1.0], 6]
        assert r["offset"] == [0.0, 0.0]


def test_a_released_ring_frees_the_blocked_peer_and_can_be_formed_again(
    run_ranks: RunRanks,
) -> None:
    reports = run_ranks(
        """
        import time
        import numpy as np
        # Both at once would have Horovod crash when it starts a second time.
        os.environ |= {"HOROVOD_FUSION_THRESHOLD": "8388608", "HOROVOD_CYCLE_TIME": "2"}
        from eai_notebook import collective
        from eai_notebook.errors import EaiError
        collective.form()
        error = ""
        if collective.rank() == 1:
            time.sleep(0.5)
            collective.release()
            try:
                collective.ensure_formed()
            except EaiError as caught:
                error = str(caught)
        else:
            try:
                collective.barrier()
            except Exception as caught:
                error = type(caught).__name__
            collective.release()
        collective.form()
        total = collective.allreduce_numpy(np.array([collective.rank() + 1]))[0]
        collective.release()
        alone = None
        if int(os.environ["OMPI_COMM_WORLD_RANK"]) == 1:
            collective.form([1])
            alone = [collective.rank(), collective.size(), collective.exchanges()]
        report([error, int(total), alone])
        """,
        2,
    )
    (blocked, total, alone), (refused, other_total, sub) = reports
    assert blocked == "ExchangeReleased"
    assert (total, other_total) == (3, 3)
    assert "released" in refused
    assert alone is None
    assert sub == [0, 1, True]


def test_the_offset_of_a_far_clock_is_found(run_ranks: RunRanks) -> None:
    reports = run_ranks(
        """
        import time
        import numpy as np
        from eai_notebook import collective
        from eai_notebook.collective import clock_sync
        collective.form()
        r = collective.rank()
        clock_sync._machine = lambda: np.array([r], np.uint8)  # two machines
        if r == 1:
            real = time.time
            clock_sync.time.time = lambda: real() + 100.0
        report(collective.clock_offset())
        """,
        2,
    )
    assert reports[0] == [0.0, 0.0]
    offset, uncertainty = reports[1]
    # Half of the quickest answer's time, which is long where the machine is busy.
    assert 0 < uncertainty < 10
    assert abs(offset + 100.0) <= uncertainty


RESTING = """
    import time
    import tensorflow as tf
    from eai_notebook import collective

    collective.form()
    collective.barrier()
    before = time.process_time()
    time.sleep(2)
    idle = time.process_time() - before

    @tf.function(autograph=False)
    def chained(value):
        for link in range(4):
            value = collective.allreduce(value, f"link.{link}", average=False)
        return value

    begin = time.monotonic()
    total = float(chained(tf.constant(1.0)))
    report([idle, total, time.monotonic() - begin])
    collective.barrier()
"""


def test_an_idle_ring_rests_and_an_exchange_wakes_it(
    run_ranks: RunRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_HOROVOD_REST_MS", "0")
    stock = run_ranks(RESTING, 2)
    monkeypatch.setenv("EAI_HOROVOD_REST_MS", "8000")
    rested = run_ranks(RESTING, 2)
    # Which rank looks for the others, and which waits, is not the same each time.
    busy, calm = (sum(idle for idle, _, _ in ranks) for ranks in (stock, rested))
    assert calm < busy / 4
    for (_, same, _), (_, total, took) in zip(stock, rested, strict=True):
        assert same == total == 2.0**4
        assert took < 8, "an exchange waited for the end of a rest"


def test_two_threads_of_a_rank_do_not_exchange_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank may run them in another order, and numbers of one would be added to the other's."""
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        def barrier(self, _name: str) -> None:
            entered.set()
            assert leave.wait(60.0)

    monkeypatch.setattr(ops, "active_backend", Slow)
    first = threading.Thread(target=collective.barrier)
    first.start()
    try:
        assert entered.wait(60.0)
        with pytest.raises(EaiError) as caught:
            collective.barrier()
        assert caught.value.code == "exchange-in-threads"
    finally:
        leave.set()
        first.join()
    collective.barrier()  # one after the other
