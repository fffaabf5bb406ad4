"""Buttons in the notebook that control the group, for use without the panel."""

from __future__ import annotations

import shlex
import threading
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.compression.wire_registry import wire_names
from eai_notebook.display.live_run import display, in_notebook, shell
from eai_notebook.display.panel_channel import follow_group
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_RANKS: Final = 512
"""Of a group that a form starts."""

_OLD_KERNEL = "Before ipykernel 7, only the notebook's own Stop reaches a cell that runs."


def controls() -> None:
    """Show the group's state with buttons that start, stop, restart and end it.

    They do what `%eai` does, so either can be used at any time; the state follows. Nothing
    is returned: as a cell's last value it would be shown a second time. Needs a notebook.
    An ipykernel before 7 serves no button while a cell runs, and the controls say so.

    Raises `EaiError` outside of a notebook.
    """
    if not in_notebook():
        raise EaiError(
            "buttons need a notebook",
            "use `%eai up`, or `eai.Session` in a script",
            code="notebook-needed",
        )
    from importlib.metadata import version

    from ipywidgets import BoundedIntText, Button, Dropdown, HBox, Label, Text, VBox
    from packaging.version import Version

    is_served = Version(version("ipykernel")) >= Version("7")  # also while a cell runs
    ranks = BoundedIntText(value=2, min=1, max=MOST_RANKS, description="Ranks")
    hosts = Text(placeholder="this machine", description="Hosts")
    wire = Dropdown(options=wire_names(), description="Wire")
    state, said = Label("no group is running"), Label("" if is_served else _OLD_KERNEL)

    def start_line() -> str:
        where = hosts.value.strip()
        group = f"--hosts {shlex.quote(where)}" if where else f"-n {ranks.value}"
        return f"up {group} --wire {wire.value}"

    buttons = {
        "Start": Button(description="Start", button_style="success"),
        "Stop": Button(description="Stop", button_style="danger", disabled=True),
        "Restart": Button(description="Restart", disabled=True),
        "Shut down": Button(description="Shut down", disabled=True),
    }
    actions: dict[str, Callable[[], None]] = {
        "Start": lambda: _magic(start_line()),
        "Stop": _interrupt,
        "Restart": lambda: _magic("restart"),
        "Shut down": lambda: _magic("down"),
    }
    for name, button in buttons.items():
        button.on_click(_press(actions[name], said))
        _serve_beside_cells(button)

    def show(model: dict[str, Any]) -> None:
        is_up, is_busy = model["state"] in ("up", "busy"), model["state"] == "busy"
        state.value = model["message"] or model["state"]
        buttons["Start"].disabled = model["state"] not in ("down", "lost")
        buttons["Stop"].disabled = not (is_busy and is_served)
        buttons["Restart"].disabled = buttons["Shut down"].disabled = not is_up or is_busy

    follow_group(show)
    box = VBox([HBox([ranks, hosts, wire]), HBox(list(buttons.values())), HBox([state, said])])
    display(box)


def _press(action: Callable[[], None], said: Any) -> Callable[[Any], None]:
    """Return what a click does: the action, and its failure as words beside the buttons."""

    def pressed(_button: Any) -> None:
        said.value = ""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is, the person who pressed sees it
            said.value = str(error)

    return pressed


def _magic(line: str) -> None:
    ipython = shell()
    ipython.run_line_magic("load_ext", "eai_notebook")
    ipython.run_line_magic("eai", line)


def _interrupt() -> None:
    """Do what the notebook's own stop button does, from whichever thread serves the click."""
    import os
    import signal

    if threading.current_thread() is threading.main_thread():
        return  # no cell is running, or this click would not be served
    os.kill(os.getpid(), signal.SIGINT)


def _serve_beside_cells(button: Any) -> None:
    """Have ipykernel 7.4 serve the button while a cell runs, as 7.1 to 7.3 do.

    It moves a comm on which the main thread has sent, as it does to make a widget, to the
    main thread, where a click waits for the cell. Older versions know nothing of this name.
    """
    button.comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001
