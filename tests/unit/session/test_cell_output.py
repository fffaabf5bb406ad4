"""What of a cell is shown first: a run's picture, then what the training prints, in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthetic import run_rows

from eai_notebook.display.plain_text import text
from eai_notebook.display.static_html import html
from eai_notebook.session import Watcher
from eai_notebook.session.cell import TelemetryCame, TextCame
from eai_notebook.session.cell_output import CellOutput
from eai_notebook.session.guarded_watcher import GuardedWatcher
from eai_notebook.session.rank_status import RankStatus
from eai_notebook.session.run_recorder import RunRecorder
from eai_notebook.telemetry.messages import RunBegan, StepsDone, TrainingPrepared

if TYPE_CHECKING:
    from pathlib import Path


class Seen(Watcher):
    """Notes what is shown, in order."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def text(self, _stream: str, text: str) -> None:
        self.shown.append(text.strip())

    def run_awaited(self, name: str | None) -> None:
        self.shown.append(f"a run comes: {name}")

    def run(self, view: dict[str, Any], *, final: bool) -> None:  # noqa: ARG002
        self.shown.append(view)


def test_the_picture_of_a_run_comes_before_the_text_of_its_training(tmp_path: Path) -> None:
    seen = Seen()
    guarded = GuardedWatcher(seen)
    keeper = RunRecorder(tmp_path, guarded.books)
    output = CellOutput(guarded, keeper, RankStatus(), [0], 1)
    output.take(TextCame(0, "stdout", "all ranks got the same rows\n"))
    output.take(TelemetryCame(TrainingPrepared(0, "wide")))
    output.take(TextCame(0, "stdout", "Epoch 1/2\n"))
    output.take(TelemetryCame(TrainingPrepared(1, "wide")))  # the same training, on another rank
    output.take(TelemetryCame(RunBegan("r12345678", 0, 1, "wide", "here", 1)))
    output.tick()
    before, awaited, view, line = seen.shown
    assert (before, awaited) == ("all ranks got the same rows", "a run comes: wide")
    assert (view["run"]["steps"], line) == (0, "Epoch 1/2")
    for shown in (html(view), text(view)):
        assert "compiling the first step" in shown
        assert "no verdict" not in shown
    output.take(TelemetryCame(StepsDone("r12345678", 0, run_rows(1, 40)[0])))
    output.close()
    assert "compiling the first step" not in html(seen.shown[-2])
    assert seen.shown[-1] == "a run comes: None"
