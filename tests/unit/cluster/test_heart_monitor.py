"""A rank is let in by its first answer, however seldom the controller pings."""

from __future__ import annotations

import asyncio
import json

import zmq
from ipyparallel.controller.heartmonitor import Heart
from zmq.eventloop.zmqstream import ZMQStream

from eai_notebook.cluster.heart_monitor import PromptHeartMonitor


def bound(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> tuple[ZMQStream, str]:
    socket = context.socket(kind)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    return ZMQStream(socket), f"tcp://127.0.0.1:{port}"


async def _registered() -> list[str]:
    """Return the hearts that the hub hears of; the monitor's next ping is an hour away."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ping, ping_url = bound(context, zmq.PUB)
    pong, pong_url = bound(context, zmq.ROUTER)
    reports, reports_url = bound(context, zmq.XPUB)
    hub = context.socket(zmq.SUB)
    hub.subscribe(b"")
    hub.connect(reports_url)
    monitor = PromptHeartMonitor(
        ping_stream=ping, pong_stream=pong, monitor_stream=reports, period=3_600_000
    )
    monitor.start()
    heart = Heart(ping_url, pong_url, heart_id=b"rank")
    heart.start()
    while not hub.poll(0):  # noqa: ASYNC110  the loop is what runs the monitor
        await asyncio.sleep(0.01)
    content = json.loads(hub.recv_multipart()[-1])
    answered = set(monitor.responses)
    monitor._again.stop()
    context.destroy(0)
    assert answered == monitor.hearts == {b"rank"}
    return list(content["hearts"])


def test_a_rank_is_let_in_by_its_first_answer() -> None:
    assert asyncio.run(asyncio.wait_for(_registered(), 60)) == ["rank"]
