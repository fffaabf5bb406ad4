"""The panel's buttons, and a training that really runs on two ranks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.ranks, pytest.mark.slow]

SETUP = """\
%%distributed --setup
import keras
import eai_notebook as eai

train = eai.io.criteo("data/train-*.tsv", batch_size=1024)
model = eai.models.wide_deep(eai.io.CRITEO)"""

TRAIN = """\
%%distributed
model.compile(
    optimizer=eai.DistributedOptimizer(keras.optimizers.Adam(1e-3)),
    loss="binary_crossentropy",
    metrics=["auc"],
)
history = eai.fit(model, train, epochs=100)"""


def test_start_train_stop_and_shut_down_from_the_panel(
    open_notebook: Callable[..., Notebook],
) -> None:
    from eai_notebook.io.generate import criteo

    notebook = open_notebook(SETUP, TRAIN, name="train_clicks")
    criteo(notebook.lab.root / "data", rows=60_000, files=4)
    page = notebook.page
    page.set_default_timeout(120_000)

    page.get_by_role("button", name="Start", exact=True).click()
    wait_said(notebook, "2 ranks ready")
    notebook.run_cell()
    notebook.wait_cells(1, timeout=120_000)
    notebook.run_cell()
    notebook.wait_steps(40)
    notebook.wait_steps(40, where=".jp-OutputArea")
    notebook.screenshot("real-live")
    assert notebook.is_running()
    assert "2 ranks running a cell" in notebook.panel()

    pressed = time.monotonic()
    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(2, timeout=20_000)
    assert time.monotonic() - pressed < 10
    notebook.screenshot("real-stopped")
    assert "KeyboardInterrupt" in page.locator(".jp-CodeCell").nth(1).inner_text()
    wait_said(notebook, "2 ranks ready")

    page.get_by_role("button", name="Shut down").click()
    wait_said(notebook, "No group is running")


def wait_said(notebook: Notebook, words: str) -> None:
    """Wait until the panel says how the group is."""
    notebook.page.wait_for_function(
        "words => document.querySelector('.eai-Panel-state')?.innerText.includes(words)",
        arg=words,
    )
