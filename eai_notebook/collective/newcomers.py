"""Processes that are started while a group runs, and come into its communicators later.

A live rank, the sponsor, starts the newcomer and stays connected to it. The newcomer loads what it
needs while the others go on. When it is ready, all ranks of a communicator and the newcomer form
a new one: the sponsor opens a port, the others accept there, and the newcomer connects.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.collective import objects, survivors
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpi4py import MPI

_REQUEST, _FACTS, _PORT = 1, 2, 3
"""The kinds of messages between a newcomer and its sponsor."""
ASKS: Final = 1
"""A newcomer asks what the training is that it is to join."""
READY: Final = 2
"""A newcomer can join at the end of any step."""
_LOOK_S: Final = 0.02


@dataclass
class Awaited:
    """A newcomer, as its sponsor sees it.

    Attributes:
        number: Its number in the group.
        link: The connection to it.
        is_ready: Whether it waits to be let in.
    """

    number: int
    link: MPI.Intercomm
    is_ready: bool = False
    _sent: list[Any] = field(default_factory=list)

    def requests(self) -> list[int]:
        """Return what it has asked for since the last call; does not wait.

        Raises:
            MPI.Exception: It has died.
        """
        found = []
        while self.link.Iprobe(0, _REQUEST):
            asked = np.zeros(1, np.int64)
            self.link.Recv(asked, 0, _REQUEST)
            found.append(int(asked[0]))
        return found

    def send_facts(self, facts: dict[str, Any]) -> None:
        """Send it the facts of the training; does not wait."""
        self._send(objects.encode(facts), _FACTS)

    def open_port(self) -> str:
        """Open a port for it and send it the port's name.

        MPI sends nothing while a process waits in ``Accept``: so this returns once it is sent.

        Raises:
            MPI.Exception: It has died.
        """
        from mpi4py import MPI

        port = MPI.Open_port()
        self._send(port.encode(), _PORT)
        sent, _ = self._sent[-1]
        sent.Wait()
        return port

    def _send(self, content: bytes, kind: int) -> None:
        data = np.frombuffer(content, np.uint8).copy()
        self._sent.append((self.link.Isend(data, 0, kind), data))


_awaited: dict[int, Awaited] = {}
_failed: dict[int, str] = {}
_lock = threading.Lock()
_is_welcome = False


def start(number: int, command: Sequence[str]) -> None:
    """Have this rank start `command` as the process with `number` in the group; does not wait.

    The process must load mpi4py soon. `awaited` has it then, or `failure` says why not.
    """
    _failed.pop(number, None)
    threading.Thread(
        target=_spawn, args=[number, list(command)], name="eai-newcomer", daemon=True
    ).start()


def _spawn(number: int, command: list[str]) -> None:
    from mpi4py import MPI

    try:
        info = MPI.Info.Create({"env": f"{survivors.NUMBER}={number}"})
        MPI.COMM_SELF.Set_errhandler(MPI.ERRORS_RETURN)
        link = MPI.COMM_SELF.Spawn(command[0], command[1:], 1, info)
        link.Set_errhandler(MPI.ERRORS_RETURN)
    except MPI.Exception as error:
        _failed[number] = str(error)
        return
    with _lock:
        _awaited[number] = Awaited(number, link)


@contextlib.contextmanager
def welcome() -> Iterator[None]:
    """Have newcomers that ask be answered in the block, by a training that they can join."""
    global _is_welcome
    _is_welcome = True
    try:
        yield
    finally:
        _is_welcome = False


def are_welcome() -> bool:
    """Return whether a training goes on that newcomers can join; any thread may ask."""
    return _is_welcome


def failure(number: int) -> str | None:
    """Return why the process with `number` could not be started; None if it could, so far."""
    return _failed.get(number)


def awaited() -> list[Awaited]:
    """Return the newcomers that this rank has started, and that have not come in."""
    with _lock:
        return list(_awaited.values())


def wait_for_request(seconds: float = 120.0) -> bool:
    """Wait until a newcomer of this rank wants something; return whether one does.

    A training that is to last until a newcomer has come, as in a demonstration, calls it before two
    steps: in the first the newcomer asks what is trained, in the second it is let in.
    """
    ends = time.monotonic() + seconds
    while not any(each.link.Iprobe(0, _REQUEST) for each in awaited()):
        if time.monotonic() > ends:
            return False
        time.sleep(_LOOK_S)
    return True


def forget(number: int) -> None:
    """Wait no longer for a newcomer: it has come in, or has died."""
    with _lock:
        _awaited.pop(number, None)


def accept(comm: MPI.Intracomm, sponsor: int, number: int) -> MPI.Intracomm:
    """Return a communicator of `comm` and a newcomer, which comes last.

    All of `comm` must call it, and the newcomer `connect`.

    Args:
        comm: Those that are in.
        sponsor: The position in `comm` of the rank that has started the newcomer.
        number: The newcomer's number in the group.

    Raises:
        MPI.Exception: One of them has died.
    """
    from mpi4py import MPI

    port = ""
    if comm.rank == sponsor:
        newcomer = next((each for each in awaited() if each.number == number), None)
        if newcomer is None:
            raise MPI.Exception(MPI.ERR_PROC_FAILED)
        port = newcomer.open_port()
    link = comm.Accept(port, MPI.INFO_NULL, sponsor)
    link.Set_errhandler(MPI.ERRORS_RETURN)
    merged = link.Merge(high=False)
    merged.Set_errhandler(MPI.ERRORS_RETURN)
    return merged


def admit(number: int, sponsor: int) -> None:
    """Take a newcomer among those that live, all of which must call it, and it `come_in`.

    Args:
        number: Its number in the group.
        sponsor: The number of the rank that has started it.

    Raises:
        EaiError: One of them has died meanwhile.
    """
    from mpi4py import MPI

    living = survivors.living()
    if living is None:
        return
    members = (*living.numbers, number)
    try:
        comm = accept(living.comm, living.numbers.index(sponsor), number)
        objects.broadcast(comm, list(members))
    except MPI.Exception as error:
        raise _not_admitted() from error
    forget(number)
    survivors.adopt(comm, members)


# ------------------------------------------------------------------- in the newcomer


def is_one() -> bool:
    """Return whether this process is a newcomer that has not come in yet."""
    return survivors.NUMBER in os.environ and not survivors.is_member()


def request(what: int) -> None:
    """Send the sponsor what this newcomer wants: `ASKS` or `READY`.

    Raises:
        EaiError: The sponsor has died.
    """
    from mpi4py import MPI

    try:
        _sponsor().Send(np.array([what], np.int64), 0, _REQUEST)
    except MPI.Exception as error:
        raise _orphaned() from error


def facts() -> dict[str, Any]:
    """Wait for the facts of the training, and return them."""
    found: dict[str, Any] = objects.decode(_received(_FACTS))
    return found


def port() -> str:
    """Wait until the others let this newcomer in, and return where."""
    return _received(_PORT).decode()


def connect(port: str) -> MPI.Intracomm:
    """Return a communicator of those that are in and this newcomer, which comes last.

    Raises:
        MPI.Exception: One of them has died.
    """
    from mpi4py import MPI

    MPI.COMM_SELF.Set_errhandler(MPI.ERRORS_RETURN)
    link = MPI.COMM_SELF.Connect(port, MPI.INFO_NULL, 0)
    link.Set_errhandler(MPI.ERRORS_RETURN)
    merged = link.Merge(high=True)
    merged.Set_errhandler(MPI.ERRORS_RETURN)
    return merged


def come_in() -> None:
    """Come in among those that live, all of which call `admit`.

    Raises:
        EaiError: One of them has died meanwhile.
    """
    from mpi4py import MPI

    try:
        comm = connect(port())
        members = objects.broadcast(comm, None)
    except MPI.Exception as error:
        raise _not_admitted() from error
    survivors.adopt(comm, members)


def _not_admitted() -> EaiError:
    return EaiError(
        "a rank died while another one joined", "`%eai grow` once more", code="join-failed"
    )


def _sponsor() -> MPI.Intercomm:
    from mpi4py import MPI

    parent = MPI.Comm.Get_parent()
    parent.Set_errhandler(MPI.ERRORS_RETURN)
    return parent


def _received(kind: int) -> bytes:
    """Wait for a message of the sponsor; an interrupt ends the wait."""
    from mpi4py import MPI

    sponsor, status = _sponsor(), MPI.Status()
    try:
        while not sponsor.Iprobe(0, kind, status):
            time.sleep(_LOOK_S)
        content = np.empty(status.Get_count(MPI.BYTE), np.uint8)
        sponsor.Recv(content, 0, kind)
    except MPI.Exception as error:
        raise _orphaned() from error
    return content.tobytes()


def _orphaned() -> EaiError:
    return EaiError(
        "the rank that has started this one has died before it could join",
        "`%eai grow` once more",
        code="join-failed",
    )
