"""`Growth`: ranks that are started while an elastic group runs, made ready, and let in.

A live rank starts the newcomer. It loads TensorFlow and replays the set-up cells while the others go
on. If they train elastically, it runs their cell and joins the training at a step's end; otherwise it
gets the weights of their models and is let in before the next cell.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.session import remote_calls
from eai_notebook.session.cell import Cell
from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.cluster.group import Group

START_S: Final = 120.0
"""How long a newcomer may take to register with the controller."""
_ANSWER_S: Final = 10.0
"""How long a rank may take to answer beside its cell."""
_LOOK_S: Final = 0.1
_SPONSORS: Final = 3
"""With how many ranks a start is tried, if those that start it die."""


@dataclass
class Newcomer:
    """A rank that was started while the group ran.

    Attributes:
        number: Its number in the group.
        sponsor: The rank that has started it.
        info: Its ``rank``, ``host`` and ``pid``, once it is ready.
    """

    number: int
    sponsor: int
    info: dict[str, Any] = field(default_factory=dict)


class _SponsorDiedError(EaiError):
    """The rank that was to start another one has died."""


class Growth:
    """The newcomers of one group.

    Args:
        group: The group, which is elastic.
        setup: Returns the set-up cells to replay, each with its ranks or None for all.
        wire: What gradients travel in where an optimizer does not say.
        say: Shows the user a line.
        progress: Shows the user what is waited for.
    """

    def __init__(
        self,
        group: Group,
        setup: Callable[[], list[tuple[str, list[int] | None]]],
        wire: str | None,
        say: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self._group = group
        self._setup = setup
        self._wire = wire
        self._say = say
        self._progress = progress
        self._lock = threading.Lock()
        self._ready: dict[int, Newcomer] = {}
        self._at_door: dict[int, Newcomer] = {}

    def choose(self, count: int | None) -> list[int]:
        """Return the numbers of `count` more ranks: those of dead ranks first.

        By default as many as have died, or one.
        """
        group = self._group
        free = [rank for rank in group.missing if rank not in group.joining]
        wanted = (len(free) or 1) if count is None else count
        if wanted < 1:
            raise EaiError(f"{wanted} more ranks are none", "`%eai grow -n 1`", code="group-size")
        beyond = max([group.size - 1, *group.joining]) + 1
        return [*free, *range(beyond, beyond + wanted)][:wanted]

    # ----------------------------------------------------------------- any thread

    def start(self, number: int) -> Newcomer:
        """Start a rank and return once it is ready to be let in.

        Raises:
            EaiError: It could not start, or a set-up cell failed there.
        """
        group = self._group
        group.joining.add(number)
        try:
            return self._start(number)
        except BaseException:
            group.ask_to_leave([number])
            group.leaving.discard(number)
            if number >= group.size:
                group.joining.discard(number)
            raise

    def wait_at_door(self, newcomer: Newcomer, is_over: Callable[[], bool]) -> None:
        """Have a newcomer join the training that goes on; return when it may, or all is over."""
        while not is_over():
            answer = self._group.ask_newcomer(newcomer.number, newcomer.sponsor, _ANSWER_S)
            if answer is not None and answer["is_welcome"]:
                with self._lock:
                    if newcomer.number in self._ready:
                        self._at_door[newcomer.number] = newcomer
                return
            time.sleep(_LOOK_S)

    def _start(self, number: int) -> Newcomer:
        for tries_left in reversed(range(_SPONSORS)):
            newcomer = self._started(number, is_last=not tries_left)
            if newcomer is not None:
                break
        assert newcomer is not None, "the last try has raised"  # noqa: S101
        return newcomer

    def _started(self, number: int, *, is_last: bool) -> Newcomer | None:
        """Start a rank; return None if the one that starts it has died, and it is not the last."""
        try:
            return self._start_by(number, self._group.live[0])
        except _SponsorDiedError:
            if is_last:
                raise
            self._say(f"the rank that was to start rank {number} has died; another one does")
            return None

    def _start_by(self, number: int, sponsor: int) -> Newcomer:
        group, newcomer = self._group, Newcomer(number, sponsor)
        self._progress(f"rank {number} starts")
        if group.start_newcomer(number, sponsor, _ANSWER_S) is None:
            raise self._died(newcomer)
        begin = time.monotonic()
        while not group.is_registered(number):
            self._check(newcomer, time.monotonic() - begin)
            time.sleep(_LOOK_S)
        self._progress(f"rank {number} loads TensorFlow")
        newcomer.info = self._answer(newcomer, remote_calls.warm_up, self._wire)
        cells = [code for code, ranks in self._setup() if ranks is None or number in ranks]
        for position, code in enumerate(cells, 1):
            self._progress(f"rank {number}: set-up cell {position} of {len(cells)}")
            self._replay(newcomer, code)
        with self._lock:
            self._ready[number] = newcomer
        return newcomer

    def _check(self, newcomer: Newcomer, waited: float) -> None:
        """Raise if a newcomer will not register any more."""
        answer = self._group.ask_newcomer(newcomer.number, newcomer.sponsor, _ANSWER_S)
        if answer is None:
            raise self._died(newcomer)
        if answer["failure"] or waited > START_S:
            why = answer["failure"] or f"it did not register for {START_S:.0f} s"
            raise EaiError(
                f"rank {newcomer.number} could not start: {why}",
                "`%eai grow` once more; the group goes on without it",
                code="start-failed",
            )

    def _died(self, newcomer: Newcomer) -> EaiError:
        return _SponsorDiedError(
            f"rank {newcomer.sponsor} has died while it started rank {newcomer.number}",
            "`%eai grow` once more",
            code="join-failed",
        )

    def _answer(self, newcomer: Newcomer, call: Any, *arguments: Any) -> Any:
        """Return what a newcomer answers, the first in its life with the group."""
        request = self._group.view([newcomer.number]).apply_async(call, *arguments)
        try:
            return request.get()[0]
        except remote_calls.REMOTE_ERRORS as error:
            cause = remote_calls.first_error(error)
            raise self._not_ready(newcomer, f"{cause.ename}: {cause.evalue}") from None

    def _replay(self, newcomer: Newcomer, code: str) -> None:
        cell = Cell(self._group, code, [newcomer.number], {})
        while not cell.is_over:
            for _ in cell.events(_LOOK_S):
                pass
        reply = cell.replies[newcomer.number]
        if reply.failed:
            raise self._not_ready(newcomer, f"a set-up cell: {reply.ename}: {reply.evalue}")

    def _not_ready(self, newcomer: Newcomer, why: str) -> EaiError:
        return EaiError(
            f"rank {newcomer.number} cannot join ({why})",
            "the group goes on without it; `%eai grow` once more",
            code="join-failed",
        )

    # -------------------------------------------------------------- the main thread

    def at_door(self) -> list[Newcomer]:
        """Return the newcomers that may join a training now, each once."""
        with self._lock:
            found, self._at_door = self._at_door, {}
        return list(found.values())

    def joined(self, number: int) -> dict[str, Any]:
        """Note that a newcomer trains with the others; return who it is."""
        with self._lock:
            newcomer = self._ready.pop(number)
        self._group.admit(number)
        return newcomer.info

    def let_in(self, clear: Callable[[], None]) -> list[dict[str, Any]]:
        """Let in all that are ready, while no cell runs; return who they are.

        Args:
            clear: Called before and after each, since no ring stands then.
        """
        with self._lock:
            ready, self._at_door = list(self._ready.values()), {}
        found = []
        for newcomer in ready:
            with self._lock:
                self._ready.pop(newcomer.number, None)
            if not self._group.is_registered(newcomer.number):
                self._say(f"rank {newcomer.number} died before it could join")
                continue
            self._give_models(newcomer)
            clear()
            self._admit(newcomer)
            clear()
            self._group.admit(newcomer.number)
            found.append(newcomer.info)
        return found

    def _give_models(self, newcomer: Newcomer) -> None:
        """Give a newcomer the weights of the models of a rank that has been there."""
        view = self._group.view(self._group.live[:1])
        names = view.apply_sync(remote_calls.models)[0]
        given = {name: view.apply_sync(remote_calls.fetch, name)[0] for name in names}
        if given:
            self._progress(f"rank {newcomer.number} gets {', '.join(given)}")
            self._answer(newcomer, remote_calls.take_models, given)

    def _admit(self, newcomer: Newcomer) -> None:
        group = self._group
        live = group.live
        group.view(live).apply_sync(remote_calls.drop_dead)  # also one that this one replaces
        requests = [
            group.view(live).apply_async(remote_calls.admit, newcomer.number, newcomer.sponsor),
            group.view([newcomer.number]).apply_async(remote_calls.come_in),
        ]
        try:
            for request in requests:
                request.get()
        except remote_calls.REMOTE_ERRORS as error:
            cause = remote_calls.first_error(error)
            raise self._not_ready(newcomer, f"{cause.ename}: {cause.evalue}") from None


def describe(found: Sequence[dict[str, Any]], size: int) -> str:
    """Return who has come in, in words."""
    ranks = sorted(info["rank"] for info in found)
    verb = "has" if len(ranks) == 1 else "have"
    return f"{name_ranks(ranks)} {verb} joined: {size} ranks"
