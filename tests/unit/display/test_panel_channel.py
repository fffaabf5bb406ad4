"""The channel against the comm machinery of a real kernel, without a front end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kernel_sockets import running_kernel
from waiting import PATIENCE_S

from eai_notebook.display.panel_channel import CONTROL_TARGET, PUSH_ID, PUSH_TARGET, PanelChannel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

SETUP = """
from eai_notebook.display.panel_channel import PanelChannel
asked = []
def on_command(name, arguments):
    asked.append((name, arguments))
    if name == "restart":
        raise RuntimeError("no group is running")
panel = PanelChannel(on_command)
"""


@pytest.fixture
def client() -> Iterator[BlockingKernelClient]:
    with running_kernel() as manager:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE_S)
        yield client
        client.stop_channels()


def comm_messages(client: BlockingKernelClient, count: int) -> list[dict[str, Any]]:
    """Return the next messages about comms that the kernel publishes."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        if message["msg_type"].startswith("comm_"):
            found.append({"type": message["msg_type"], **message["content"]})
        assert message["msg_type"] != "error", message["content"]
    return found


def send(client: BlockingKernelClient, kind: str, **content: Any) -> None:
    client.shell_channel.send(client.session.msg(kind, {"comm_id": "mine", **content}))


def test_the_kernel_pushes_on_one_comm_and_answers_on_the_other(
    client: BlockingKernelClient,
) -> None:
    client.execute(SETUP + "panel.group({'state': 'up', 'size': 2})\npanel.run({'schema': 1})")
    opened, group, run = comm_messages(client, 3)
    assert opened["type"] == "comm_open"
    assert (opened["comm_id"], opened["target_name"]) == (PUSH_ID, PUSH_TARGET)
    assert group["data"] == {"type": "group", "group": {"state": "up", "size": 2}}
    assert run["data"]["view"] == {"schema": 1}
    assert run["data"]["group"] == {"state": "up", "size": 2}

    send(client, "comm_open", target_name=CONTROL_TARGET, data={})
    send(client, "comm_msg", data={"command": "refresh", "number": 1})
    again, and_again, done = comm_messages(client, 3)
    assert (again["data"], and_again["data"]) == (group["data"], run["data"])
    assert (done["comm_id"], done["data"]) == ("mine", {"type": "done", "number": 1, "value": None})


def test_a_command_that_fails_is_answered_with_its_reason(client: BlockingKernelClient) -> None:
    client.execute(SETUP)
    send(client, "comm_open", target_name=CONTROL_TARGET, data={})
    send(client, "comm_msg", data={"command": "up", "number": 1, "args": {"n": 2}})
    send(client, "comm_msg", data={"command": "restart", "number": 2})
    done, failed = comm_messages(client, 2)
    assert done["data"] == {"type": "done", "number": 1, "value": None}
    assert failed["data"] == {"type": "failed", "number": 2, "message": "no group is running"}
    client.execute(
        "assert asked == [('up', {'n': 2}), ('restart', {})]", reply=True, timeout=PATIENCE_S
    )


def test_without_a_kernel_a_message_to_the_panel_does_nothing() -> None:
    panel = PanelChannel(lambda _name, _arguments: None)
    panel.group({"state": "up"})
    panel.run({"schema": 1})
