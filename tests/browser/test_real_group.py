"""The panel's buttons, and a training that really runs on two ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.ranks,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

PATIENCE_MS = 240_000
"""How long a step may take where many others use the machine; nothing here measures time."""

SETUP = """\
%%distributed --setup
import keras
import eai_notebook as eai

train = eai.io.criteo("data/train-*.tsv", batch_size=1024)
model = eai.models.wide_deep(eai.io.CRITEO)"""

# A callback that is slow on one rank: the picture of the README shows how it is named.
TRAIN = """\
%%distributed
import time

class SaveSamples(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.02 if eai.rank() == 1 else 0)

model.compile(
    optimizer=eai.DistributedOptimizer(keras.optimizers.Adam(1e-3)),
    loss="binary_crossentropy",
    metrics=["auc"],
)
history = eai.fit(model, train, epochs=100, callbacks=[SaveSamples()])"""


def test_start_train_stop_and_shut_down_from_the_panel(
    open_notebook: Callable[..., Notebook],
) -> None:
    from eai_notebook.datasets.click_logs import criteo

    notebook = open_notebook(SETUP, TRAIN, name="train_clicks")
    criteo(notebook.lab.root / "data", rows=60_000, files=4)
    page = notebook.page
    page.set_default_timeout(PATIENCE_MS)

    page.get_by_role("button", name="Start", exact=True).click()
    wait_said(notebook, "2 ranks ready")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(40)
    notebook.wait_steps(40, where=".jp-OutputArea")
    notebook.screenshot("real-live")
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
    wait_said(notebook, "2 ranks ready")

    page.get_by_role("button", name="Shut down").click()
    wait_said(notebook, "No group is running")


def test_two_notebooks_have_a_group_each_and_a_long_cell_stops_at_once(
    open_notebook: Callable[..., Notebook],
) -> None:
    busy = open_notebook(
        "import time\ntime.sleep(20)", "%%distributed\nimport time\ntime.sleep(900)", name="busy"
    )
    other = open_notebook("%load_ext eai_notebook\n%eai up -n 1", name="other")
    for notebook in (busy, other):
        notebook.page.set_default_timeout(PATIENCE_MS)
    # Started from the panel, beside a cell that runs.
    busy.run_cell()
    busy.page.get_by_label("Ranks").fill("1")
    busy.page.get_by_role("button", name="Start", exact=True).click()
    # Started by a magic, found by the panel.
    other.run_cell()
    wait_said(other, "1 rank ready")
    wait_said(busy, "1 rank ready")

    busy.wait_cells(1)
    busy.run_cell()
    wait_said(busy, "1 rank running a cell")
    busy.page.get_by_role("button", name="rank 0").wait_for()
    busy.page.get_by_text("no GPU").or_(busy.page.get_by_text("GPU 0")).first.wait_for()
    assert "1 rank ready" in other.panel()
    busy.page.get_by_role("button", name="Stop", exact=True).click()
    busy.wait_cells(2)
    wait_said(busy, "1 rank ready")
    assert "KeyboardInterrupt" in busy.page.locator(".jp-CodeCell").nth(1).inner_text()

    other.page.get_by_role("button", name="Shut down").click()
    wait_said(other, "No group is running")
    assert "1 rank ready" in busy.panel()


def wait_said(notebook: Notebook, words: str) -> None:
    """Wait until the panel says how the group is."""
    notebook.page.wait_for_function(
        "words => document.querySelector('.eai-Panel-state')?.innerText.includes(words)",
        arg=words,
    )
