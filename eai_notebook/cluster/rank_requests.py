"""Requests to ranks through ipyparallel's client: run a cell, ask beside a cell.

What ipyparallel's public functions do not offer is here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

import zmq
from ipyparallel import error as ipp_error
from tornado.ioloop import PeriodicCallback

from eai_notebook.cluster.client import GroupClient, connection_file
from eai_notebook.telemetry.messages import WHERE_REQUEST

if TYPE_CHECKING:
    from eai_notebook.cluster import registry

LISTEN_MS = 50.0

UNREACHABLE = (LookupError, ipp_error.NoEnginesRegistered)
"""What the client raises for a rank that the controller has given up."""

OnOutput = Callable[[str, dict[str, Any]], None]
OnReply = Callable[[Any], None]
Answers = dict[int, dict[str, Any] | None]
"""What each rank that answered is doing: the fields of a `StackLocation`, None between cells."""


def execute(client: Any, rank: int, code: str, on_output: OnOutput, on_reply: OnReply) -> None:
    """Run `code` as a cell on `rank`; both callbacks come from the client's own thread.

    ``on_output(kind, content)`` gets what the cell prints and shows, ``"idle"`` last;
    ``on_reply(error)`` its end, with None when all went well. They are set before the request
    leaves, so that nothing is missed.
    """
    idents, _ = client._build_targets(rank)  # noqa: SLF001  # the public way sets callbacks late

    def watch(future: Any) -> None:
        metadata = client.metadata[future.msg_id]
        future.iopub_callbacks.append(lambda message: _relay(message, metadata, on_output))
        future.add_done_callback(lambda done: on_reply(_error_of(done.result())))
        # the client forgets a request that is complete before it delivers its last message
        future.output.add_done_callback(lambda _: on_output("idle", {}))

    client.send_execute_request(
        client._mux_socket,  # noqa: SLF001
        code,
        silent=False,
        ident=idents[0],
        message_future_hook=watch,
    )
    client._io_loop.add_callback(lambda: _read(client))  # noqa: SLF001  # after the send itself


def ask(
    client: Any, kind: str, content: dict[str, Any], ranks: Iterable[int], patience: float
) -> dict[int, dict[str, Any]]:
    """Return the answers of `ranks` on the control channel, which a rank serves beside its cell.

    A rank that does not answer within `patience` seconds is left out.
    """
    futures = {}
    for rank in ranks:
        channel = client._control_stream  # noqa: SLF001
        with contextlib.suppress(*UNREACHABLE):
            ident = client._build_targets(rank)[0][0]  # noqa: SLF001
            futures[rank] = client._send(channel, kind, content=content, ident=ident)  # noqa: SLF001
    deadline = time.monotonic() + patience
    found = {}
    for rank, future in futures.items():
        with contextlib.suppress(TimeoutError, FutureTimeout):
            reply = future.result(timeout=max(0.0, deadline - time.monotonic()))
            found[rank] = reply["content"]
    return found


def ask_where(client: Any, ranks: Iterable[int], patience: float) -> Answers:
    """Return what each of `ranks` is doing."""
    found = ask(client, WHERE_REQUEST, {}, ranks, patience)
    return {rank: content["where"] for rank, content in found.items()}


def ask_where_of(entry: registry.Entry, patience: float) -> Answers:
    """Return what each rank of a group that another process uses is doing."""
    client = GroupClient(connection_file(entry))
    try:
        return ask_where(client, range(entry.size), patience)
    finally:
        client.close()


def keep_listening(client: Any) -> None:
    """Look for replies now and then, whether or not ZeroMQ has announced any.

    ZeroMQ announces new messages once, by an edge. The client sends on sockets that its
    event loop listens on, and a send can swallow the edge of a reply that arrives at
    the same moment: the reply then lies there unread and its request never ends. With
    two ranks this struck once in some five hundred cells.
    """

    def start() -> None:
        PeriodicCallback(lambda: _read(client), LISTEN_MS).start()

    client._io_loop.add_callback(start)  # noqa: SLF001  # the client has no public loop


def _read(client: Any) -> None:
    for stream in (client._mux_stream, client._iopub_stream, client._control_stream):  # noqa: SLF001
        if not stream.closed():
            stream.flush(zmq.POLLIN)


def _relay(message: Any, metadata: Any, on_output: OnOutput) -> None:
    """Pass a message on, and drop the copy that the client would keep without end."""
    kind, content = message["header"]["msg_type"], message["content"]
    if kind == "data_message":
        kind, content = "data", dict(metadata["data"])
        metadata["data"].clear()
    elif kind == "stream":
        metadata[content["name"]] = ""
    elif kind == "display_data":
        metadata["outputs"].clear()
    on_output(kind, content)


def _error_of(result: Any) -> Any:
    """Return the remote error that `result` is, or None if the cell went well."""
    return result if isinstance(result, BaseException) else None
