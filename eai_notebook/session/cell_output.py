"""Route a cell's output and telemetry to the observer and the run recorder."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from eai_notebook.bookkeeping import OUTPUT, PANEL
from eai_notebook.session.cell import Event, RichCame, TextCame
from eai_notebook.session.output_folding import RankOutput
from eai_notebook.session.separate_models import SeparateModels
from eai_notebook.telemetry.messages import (
    ResourceUsage,
    RunMessage,
    TrainedAlone,
    TrainingPrepared,
    VariablesTrained,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.session.guarded_watcher import GuardedWatcher
    from eai_notebook.session.rank_status import RankStatus
    from eai_notebook.session.run_recorder import RunRecorder


_ADDRESS: Final = re.compile(r"(?<=[\w.]) at 0x[0-9a-f]{6,}(?=>)")
"""Where an object lies in memory, in its text: another place on each rank, of use to nobody."""


class CellOutput:
    """Shows one cell on `ranks` of a group of `size` to `watcher`, until `close`."""

    def __init__(
        self,
        watcher: GuardedWatcher,
        keeper: RunRecorder,
        pulse: RankStatus,
        ranks: Sequence[int],
        size: int,
    ) -> None:
        self._watcher = watcher
        self._books = watcher.books
        self._keeper = keeper
        self._pulse = pulse
        self._marked = size > 1
        overflow = keeper.root.parent / "logs" / f"cell-{time.time_ns() // 1_000_000}.log"
        self._separate = SeparateModels()
        self._announcer: int | None = None
        self._output = RankOutput(ranks, watcher.text, overflow, prefixed=self._marked)

    def take(self, event: Event) -> None:
        """Take what a rank said."""
        if isinstance(event, TextCame):
            with self._books.doing(OUTPUT):
                self._output.feed(event.rank, event.stream, event.text)
            with self._books.doing(PANEL):
                self._pulse.take_text(event.rank, event.text)
        elif isinstance(event, RichCame):
            with self._books.doing(OUTPUT):
                self._show_rich(event)
        elif isinstance(event.message, ResourceUsage):
            with self._books.doing(PANEL):
                self._pulse.add_usage(event.message)
            self._keeper.take_usage(event.message)
        elif isinstance(event.message, TrainingPrepared):
            self._await_run(event.message)
        elif isinstance(event.message, TrainedAlone | VariablesTrained):
            self._separate.take(event.message)
        elif isinstance(event.message, RunMessage):
            self._keeper.take(event.message)

    def add(self, rank: int) -> None:
        """Show what one more rank has to say."""
        self._marked = True
        with self._books.doing(OUTPUT):
            self._output.add(rank)

    def tick(self) -> None:
        """Write what is due; to be called some twenty times a second."""
        # A run's picture comes before the text of the training, which is then in one piece.
        self._show_views()
        with self._books.doing(OUTPUT):
            self._output.flush()
        self._say_news()

    def say(self, words: str) -> None:
        """Show the user a line that no rank printed."""
        self._watcher.text("stderr", words + "\n")

    def close(self) -> None:
        """Write the rest, and end the runs that nobody has ended."""
        with self._books.doing(OUTPUT):
            self._output.close()
        self._say_news(ended=True)
        self._show_views(ended=True)
        self._watcher.run_awaited(None)
        for line in self._separate.lines():
            self.say(line)

    def _await_run(self, message: TrainingPrepared) -> None:
        """Keep the space of a run's picture above what the training prints, "Epoch 1/2" first.

        All ranks announce the same training: one of them is listened to.
        """
        self._announcer = message.rank if self._announcer is None else self._announcer
        if message.rank == self._announcer:
            with self._books.doing(OUTPUT):
                self._output.flush(everything=True)
            self._show_views()
            self._watcher.run_awaited(message.name)

    def _show_rich(self, event: RichCame) -> None:
        data = event.content["data"]
        if set(data) == {"text/plain"}:  # so that equal values fold like equal lines
            text = _ADDRESS.sub("", data["text/plain"]) if self._marked else data["text/plain"]
            self._output.feed(event.rank, "stdout", text + "\n")
            return
        self._output.flush(everything=True)
        self._watcher.rich(f"[{event.rank}] " if self._marked else "", event.content)

    def _say_news(self, *, ended: bool = False) -> None:
        for words in self._keeper.traces_due(ended=ended):
            self._watcher.text("stdout", words + "\n")
        for words in self._keeper.notices_due():
            self.say(words)

    def _show_views(self, *, ended: bool = False) -> None:
        for view, final in self._keeper.views_due(ended=ended):
            self._watcher.run(view, final=final)
