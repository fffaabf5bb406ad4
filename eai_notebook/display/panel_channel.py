"""The kernel's side of the JupyterLab panel: state to the panel, commands from it.

There are two comms. The kernel alone sends on the first, whose id is fixed, so that a
page that was reloaded while a cell runs can listen again at once. The front end opens the
second and sends its commands there: JupyterLab handles a comm beside the running cell
only if the kernel's main thread never sent on it (ipykernel 7.4 moves it to the main
thread otherwise, where it would wait for the cell to end).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.display import run_browser
from eai_notebook.display.live_run import note_front_end, shell

if TYPE_CHECKING:
    from collections.abc import Callable

PUSH_TARGET: Final = "eai_notebook"
PUSH_ID: Final = "eai_notebook_push"
CONTROL_TARGET: Final = "eai_notebook_ctl"


_followers: list[Callable[[dict[str, Any]], None]] = []
_latest_group: dict[str, Any] | None = None


def follow_group(follower: Callable[[dict[str, Any]], None]) -> None:
    """Call `follower` with the group's state, now if there is a group and at every change."""
    _followers.append(follower)
    if _latest_group is not None:
        follower(_latest_group)


class PanelChannel:
    """Sends the group and its runs to the panel, and passes on the requests of its buttons.

    ``on_command`` is called with ``"interrupt"``, ``"up"``, ``"down"`` or ``"restart"``
    and its arguments, in a thread beside the one that runs cells; what it raises is shown
    in the panel, and what it returns is handed over. What the panel asks about earlier
    runs is answered from their records. Without a Jupyter kernel all of this does nothing.
    """

    def __init__(self, on_command: Callable[[str, dict[str, Any]], Any]) -> None:
        """Take commands from now on."""
        self._on_command = on_command
        self._push: Any = None
        self._lock = threading.Lock()
        self._group: dict[str, Any] | None = None
        self._run: dict[str, Any] | None = None
        self._kernel = getattr(shell(), "kernel", None)
        manager = getattr(self._kernel, "comm_manager", None)
        if manager is not None:
            manager.register_target(CONTROL_TARGET, self._open)

    def group(self, state: dict[str, Any]) -> None:
        """Send the group's state to the panel; any thread may call this."""
        global _latest_group
        self._group = _latest_group = state
        for follower in _followers:
            follower(state)
        # Nested, since nbclient takes a message with a "state" of its own for a widget's.
        self._send({"type": "group", "group": state})

    def run_awaited(self, name: str) -> None:
        """Say which training gets ready, before there is a run; empty if none does any more."""
        self._send({"type": "awaited", "name": name})

    def run(self, view: dict[str, Any]) -> None:
        """Send the view of a run to the panel; any thread may call this."""
        self._run = view
        # A page reloaded while the cell runs cannot ask, so the group comes along.
        self._send({"type": "run", "view": view, "group": self._group})

    def _send(self, message: dict[str, Any]) -> None:
        if self._kernel is None:
            return
        with self._lock:
            if self._push is None:
                from comm import create_comm

                self._push = create_comm(target_name=PUSH_TARGET, comm_id=PUSH_ID)
            self._push.send(message)

    def _open(self, comm: Any, _message: dict[str, Any]) -> None:
        note_front_end()
        comm.on_msg(lambda message: self._command(comm, message["content"]["data"]))

    def _command(self, comm: Any, asked: dict[str, Any]) -> None:
        """Do what the panel asks, and answer: it waits for the answer before it insists."""
        name, number = str(asked.get("command")), asked.get("number")
        arguments, value = dict(asked.get("args") or {}), None
        try:
            if name == "refresh":
                self._refresh()
            elif name in run_browser.COMMANDS:
                value = run_browser.COMMANDS[name](**arguments)
            else:
                value = self._on_command(name, arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the person who pressed sees it
            comm.send({"type": "failed", "number": number, "message": str(error)})
        else:
            comm.send({"type": "done", "number": number, "value": value})

    def _refresh(self) -> None:
        if self._group is not None:
            self._send({"type": "group", "group": self._group})
        if self._run is not None:
            self._send({"type": "run", "view": self._run, "group": self._group})
