"""The size of fused messages: sizes take turns, the best is kept, the next training starts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.train.exchange import fusion_autotune

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunRanks


@pytest.mark.parametrize(("other_s", "best"), [(0.5, 2 << 20), (0.99, 1 << 20)])
def test_a_clearly_better_size_is_chosen_and_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    other_s: float,
    best: int,
) -> None:
    used, clock = [1 << 20], [0.0]
    monkeypatch.setattr(fusion_autotune, "use", used.append)
    monkeypatch.setattr(
        "eai_notebook.train.exchange.fusion_autotune.time.perf_counter", lambda: clock[0]
    )
    tuner = fusion_autotune.FusionTuner([1 << 20, 2 << 20], tmp_path / "kept.json")
    steps = 0
    while tuner.chosen is None:
        first_after_a_change = tuner.before_step()
        clock[0] += (
            9.0 if first_after_a_change or not steps else 1.0 if used[-1] == 1 << 20 else other_s
        )
        steps += 1
    assert tuner.chosen == best
    assert steps == 4 * fusion_autotune.EACH + 1
    assert used == [1 << 20, 2 << 20, 2 << 20, 1 << 20, best]
    assert fusion_autotune._read(tmp_path / "kept.json") == best
    assert f"fuses up to {best >> 20} MB" in capsys.readouterr().out
    assert not tuner.before_step()


@pytest.mark.ranks
@pytest.mark.slow
def test_a_training_is_tuned_and_the_next_starts_there(
    run_ranks: RunRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT_BELOW", str(tmp_path))
    monkeypatch.setenv("EAI_TUNE_FUSION", "1")
    reports = run_ranks(
        """
        import keras, numpy as np
        from eai_notebook import collective
        from eai_notebook.train import fit
        from eai_notebook.train.exchange import fusion_autotune
        fusion_autotune.WORTH, fusion_autotune.EACH = 1, 3
        fusion_autotune.platformdirs.user_cache_path = lambda _: os.environ["KEPT_BELOW"]
        tuners, tuner_for = [], fusion_autotune.tuner_for
        def noted(*given):
            tuners.append(tuner_for(*given))
            return tuners[-1]
        fusion_autotune.tuner_for = noted
        x, y = np.ones((8, 600), "f4"), np.ones((8, 600), "f4")
        keras.utils.set_random_seed(collective.rank())
        def train(steps):
            model = keras.Sequential([keras.Input((600,)), keras.layers.Dense(600)])
            model.compile(keras.optimizers.SGD(1e-4), "mse")
            fit(model, (x, y), epochs=steps, batch_size=8, verbose=0)
            return tuners[-1], np.asarray(model.get_weights()[0])[0, :3].tolist()
        collective.ensure_formed()
        first, weights = train(40)
        used = os.environ["HOROVOD_FUSION_THRESHOLD"]
        os.environ["HOROVOD_FUSION_THRESHOLD"] = "12345678"
        second, _ = train(3)
        report([first.chosen, int(used), second is None,
                int(os.environ["HOROVOD_FUSION_THRESHOLD"]), weights])
        """
    )
    chosen, used, at_once, later, weights = reports[0]
    assert chosen == used == later
    assert at_once
    assert reports[1] == reports[0]
    assert weights == reports[1][4]
