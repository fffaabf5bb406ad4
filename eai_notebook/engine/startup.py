"""Start-up of a rank: set the guard and telemetry, load TensorFlow, form the ring."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import psutil
from IPython.core.getipython import get_ipython

from eai_notebook import collective
from eai_notebook.collective import membership, newcomers, survivors
from eai_notebook.engine import (
    cell_guard,
    control_requests,
    notebook_magics,
    progress_bars,
    prompts,
    resource_usage,
    stall_reports,
    telemetry_publisher,
)
from eai_notebook.engine.tensorflow_import import import_tensorflow
from eai_notebook.process_lease import Lease, command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

NANNY_S: Final = 10.0
"""How long a rank's nanny may take to report the rank's death before it is ended."""

NANNY: Final = "eai_notebook.cluster.nanny"

_kept: list[Lease] = []
"""The keepers that hear of this process's end by its end of their pipes."""


def warm_up(wire: str | None = None) -> dict[str, Any]:
    """Make this engine a rank: load TensorFlow, form the ring, watch the cells.

    Where an optimizer does not say otherwise, its gradients travel as ``wire``.

    It is sent once, right after the engines have registered, so that the seconds
    TensorFlow takes to load pass while the user reads on; the first cell queues behind
    it instead of waiting for the import a second time.
    """
    shell: Any = get_ipython()
    if modules := os.environ.get("EAI_JOB_MODULES"):
        sys.path.insert(0, modules)  # those that were sent, before the working folder's
    if wire is not None:
        os.environ["EAI_WIRE"] = wire  # read by `train.wire`, which this room does not know
    prompts.install()
    notebook_magics.install(shell)
    progress_bars.install()
    telemetry_publisher.install(shell)
    stall_reports.install()
    import_tensorflow()
    if newcomers.is_one():
        membership.form_alone(survivors.number())
    else:
        collective.form()
    _listen_as_usual()
    watched = cell_guard.install(shell, collective.rank())
    resource_usage.watch(collective.rank(), lambda: watched.is_running)
    control_requests.install(shell.kernel, collective.rank())
    _watch_fits()
    if "EAI_AWAY" in os.environ:
        _follow_nanny()
    if collective.rank() != 0:
        _leave_progress_bars_to_rank_0()
    return describe_rank()


def _listen_as_usual() -> None:
    """End the rule on where this process listens: MPI does by now, and the rest is the user's.

    Programs that the user's code starts get back the environment they would have had.
    """
    if os.environ.pop("EAI_LISTEN", None) is None:
        return
    listen_on = getattr(ctypes.CDLL(None), "eai_listen_on", None)
    if listen_on is not None:  # it is None where the loader could not use the library
        listen_on(b"")
    _, _, others = os.environ.pop("LD_PRELOAD", "").partition(":")
    if others:
        os.environ["LD_PRELOAD"] = others


def _follow_nanny() -> None:
    """Have this engine's nanny leave after it, on a host that may have lost the controller.

    And with it whatever the cells have started in this engine's process group. A nanny would try without end to deliver its last messages, in a session of its own where
    ``mpirun`` does not find it.
    """
    nannies = [child for child in psutil.Process().children() if NANNY in command_line(child)]
    _kept.append(Lease(NANNY_S))
    _kept[-1].cover([os.getpid(), *(nanny.pid for nanny in nannies)])


def describe_rank() -> dict[str, Any]:
    """Say who this rank is; after `warm_up`, also while no ring stands."""
    shell: Any = get_ipython()
    return {
        "rank": shell.kernel.engine_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "notice": collective.notice(),
    }


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ignore SIGINT while all ranks that live form a ring.

    An interrupt that comes late, or too early, must not keep this rank out of it: the others
    would wait for it, and nothing could stop that.
    """
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def join_ring(ranks: list[int]) -> None:
    """Form the ring anew on `ranks`, after it was released or for a part of the group."""
    with _no_interrupts():
        collective.release()
        collective.form(ranks)


def drop_dead() -> None:
    """Leave ranks that have died out of the rings to come; all that live must do so together."""
    with _no_interrupts():
        collective.release()
        survivors.drop_dead()


def admit(number: int, sponsor: int) -> None:
    """Let in a newcomer that `sponsor` has started; all that live must do so together."""
    with _no_interrupts():
        collective.release()
        newcomers.admit(number, sponsor)


def come_in() -> None:
    """Come in among those that live, which all let this rank in."""
    with _no_interrupts():
        collective.release()
        newcomers.come_in()


def leave_ring() -> None:
    """Stay out of the ring while other ranks form one of their own."""
    collective.release()


def _watch_fits() -> None:
    """Have trainings in which nothing is exchanged be noticed."""
    from eai_notebook.train import lone_fits, lone_loops

    lone_fits.watch()
    lone_loops.watch()


def _leave_progress_bars_to_rank_0() -> None:
    """Every rank would draw the same Keras bar; a plain `model.fit` cannot know that."""
    import keras

    keras.config.disable_interactive_logging()
