"""The panel's buttons, and a training that really runs on two ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.lab import kernel_release

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.ranks, pytest.mark.slow]

SETUP = """\
%%distributed --setup
import keras
import eai_notebook as eai

train = eai.io.criteo("data/train-*.tsv", batch_size=128)
model = eai.models.wide_deep(eai.io.CRITEO)"""

# A callback that is slow on one rank: the picture of the README shows how it is named.
TRAIN = """\
%%distributed
import time

class SaveSamples(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05 if eai.rank() == 1 else 0)

model.compile(
    optimizer=eai.DistributedOptimizer(keras.optimizers.Adam(1e-3)),
    loss="binary_crossentropy",
    metrics=["auc"],
)
history = eai.fit(model, train, epochs=100_000, callbacks=[SaveSamples()])"""


def test_start_train_stop_and_shut_down_from_the_panel(
    open_notebook: Callable[..., Notebook],
) -> None:
    from eai_notebook.datasets.click_logs import criteo

    notebook = open_notebook(SETUP, TRAIN, name="train_clicks")
    criteo(notebook.lab.root / "data", rows=60_000, files=4)
    page = notebook.page

    page.get_by_role("button", name="Start", exact=True).click()
    notebook.wait_said("2 ranks ready")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(40)
    notebook.wait_steps(40, where=".jp-OutputArea")
    page.evaluate("window.jupyterapp.shell.currentWidget.content.scrollToItem(1, 'start')")
    notebook.screenshot("real-live")
    text = page.locator(".jp-OutputArea").nth(1).inner_text()
    assert text.index("Epoch 1/100") > text.index("not measured")  # below the picture
    assert notebook.is_running()
    assert "2 ranks running a cell" in notebook.panel()
    # A question that would wait as a cell; while ranks train it is about the same step on each.
    page.get_by_role("button", name="Diff", exact=True).click()
    page.get_by_role("button", name="Compare", exact=True).first.click()
    page.get_by_text("is the same on ranks 0-1 at the end of step").wait_for()
    assert notebook.is_running()
    notebook.screenshot("real-diff")
    # How the ranks are over time comes with the run.
    page.get_by_role("button", name="Open in tab").click()
    page.locator(".eai-Tab .eai-Vitals .eai-Lines").nth(1).wait_for()
    notebook.screenshot("real-tab")
    page.evaluate("void window.jupyterapp.commands.execute('application:close')")

    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(2)
    notebook.screenshot("real-stopped")
    assert "KeyboardInterrupt" in page.locator(".jp-CodeCell").nth(1).inner_text()
    notebook.wait_said("2 ranks ready")

    page.get_by_role("button", name="Shut down").click()
    notebook.wait_said("No group is running")


def test_two_notebooks_have_a_group_each_and_a_long_cell_stops_at_once(
    open_notebook: Callable[..., Notebook],
) -> None:
    busy = open_notebook(
        "import os, time\nwhile not os.path.exists('free'):\n    time.sleep(0.05)",
        "%%distributed\nimport time\ntime.sleep(900)",
        name="busy",
    )
    other = open_notebook("%load_ext eai_notebook\n%eai up -n 1", name="other")
    # Started from the panel, beside a cell that runs.
    busy.run_cell()
    busy.page.get_by_label("Ranks").fill("1")
    busy.page.get_by_role("button", name="Start", exact=True).click()
    free = busy.lab.root / "free"
    if kernel_release() >= 7:
        busy.wait_said("1 rank ready")
        assert busy.is_running()
    free.touch()
    # Started by a magic, found by the panel.
    other.run_cell()
    other.wait_said("1 rank ready")
    busy.wait_said("1 rank ready")

    busy.wait_cells(1)
    busy.run_cell()
    busy.wait_said("1 rank running a cell")
    busy.page.get_by_role("button", name="rank 0").wait_for()
    busy.page.get_by_text("no GPU").or_(busy.page.get_by_text("GPU 0")).first.wait_for()
    assert "1 rank ready" in other.panel()
    busy.page.get_by_role("button", name="Stop", exact=True).click()
    busy.wait_cells(2)
    busy.wait_said("1 rank ready")
    assert "KeyboardInterrupt" in busy.page.locator(".jp-CodeCell").nth(1).inner_text()

    other.page.get_by_role("button", name="Shut down").click()
    other.wait_said("No group is running")
    assert "1 rank ready" in busy.panel()
