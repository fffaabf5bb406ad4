"""The controller's heart monitor, which lets a rank in as soon as it answers.

ipyparallel's pings every few seconds, and looks through the answers before it pings again. A rank
that has connected waits for the next ping, and then for the one after it: three to six seconds of
each start, in which nothing happens.
"""

from __future__ import annotations

from typing import Any, Final

from ipyparallel.controller import heartmonitor
from tornado import ioloop
from zmq import EVENT_HANDSHAKE_SUCCEEDED
from zmq.eventloop.zmqstream import ZMQStream

AGAIN_MS: Final = 50
"""How often the current ping is repeated after a rank has connected."""
TIMES: Final = 40
"""How often it is repeated at most: a rank subscribes to pings right after it has connected."""


class PromptHeartMonitor(heartmonitor.HeartMonitor):
    """Repeats the current ping when a rank connects, and reports its first answer at once."""

    def start(self) -> None:
        """Start as usual, and watch who connects to the pings."""
        super().start()
        self._left = 0
        self._again = ioloop.PeriodicCallback(self._repeat, AGAIN_MS)
        events = self.ping_stream.socket.get_monitor_socket(EVENT_HANDSHAKE_SUCCEEDED)
        self._connected = ZMQStream(events)
        self._connected.on_recv(self._repeat_soon)

    def handle_pong(self, message: list[bytes]) -> None:
        """Take an answer; the hub hears of a new rank by it."""
        super().handle_pong(message)
        if message[0] in self.responses and message[0] not in self.hearts:
            self.handle_new_hearts({message[0]})

    def _repeat_soon(self, _event: Any) -> None:
        self._left = TIMES
        if not self._again.is_running():
            self._again.start()

    def _repeat(self) -> None:
        """Send the current ping once more: an answer to it counts as one to the first."""
        self._left -= 1
        if self._left <= 0:
            self._again.stop()
        self.ping_stream.send(str(self.lifetime).encode("ascii"))
        self.ping_stream.flush()


def use() -> None:
    """Have ipyparallel's controller use this monitor."""
    heartmonitor.HeartMonitor = PromptHeartMonitor
