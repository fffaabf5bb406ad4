"""The controller process of a group: ipyparallel's, which lets in only who has the group's keys.

Run as ``python -m eai_notebook.cluster.controller`` by `Group.start`. ipyparallel encrypts its
connections if asked to, but checks no client's key (see `keys`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any, Final

import zmq
from ipyparallel import util
from ipyparallel.controller import heartmonitor
from ipyparallel.controller.app import IPController
from tornado import ioloop
from traitlets import Unicode
from zmq.devices import ProcessMonitoredQueue
from zmq.eventloop.zmqstream import ZMQStream

from eai_notebook.cluster import heart_monitor
from eai_notebook.cluster.keys import KeyPair, refuse_others, use_for_all
from eai_notebook.files import write_private

LOOK_MS: Final = 200
"""How often the controller looks whether its own processes live."""

_plain_bind = util.bind


class GuardedProcessQueue(ProcessMonitoredQueue):
    """A relay between clients and engines, in a process of its own, that checks their keys."""

    known: tuple[KeyPair, ...] = ()

    @staticmethod
    def context_factory() -> zmq.Context[Any]:  # type: ignore[override]  # zmq types a class here
        """Return the context of the relay's process, with the check in place."""
        context: zmq.Context[Any] = zmq.Context()
        refuse_others(context, *GuardedProcessQueue.known)
        return context


class GroupController(IPController):
    """ipyparallel's controller, with CURVE on every socket and every client's key checked."""

    mq_class = Unicode(f"{__name__}.GuardedProcessQueue")

    def init_hub(self) -> None:
        """Make the keys before the first socket listens."""
        own = KeyPair(self.curve_publickey, self.curve_secretkey)
        self._group = KeyPair.make()
        _check_keys_of_every_socket(own, self._group)
        super().init_hub()

    def start(self) -> None:
        """Run until ended, or until one of the controller's own processes has ended.

        Each of them listens on ports that were free a moment before. Where another program has taken
        one since, the process ends, and ranks would wait for its answer until their start fails.
        """
        watch = ioloop.PeriodicCallback(self._end_without_a_child, LOOK_MS)
        self.loop.add_callback(watch.start)
        super().start()
        if self._lacks is not None:
            raise SystemExit(1)

    _lacks: str | None = None

    def _end_without_a_child(self) -> None:
        """End if one of the processes has ended by itself."""
        for child in (*self.children, self.heartmonitor_process):
            process = getattr(child, "launcher", child)
            if self._lacks is None and getattr(process, "exitcode", None) is not None:
                self._lacks = str(process.name)
                self.log.critical("%s has ended: shutting down", self._lacks)
                self.terminate_children()
                self.loop.stop()

    def save_connection_dict(self, fname: str, cdict: dict[str, Any]) -> None:
        """Write a connection file with the group's keys; it is never there in part."""
        path = Path(self.profile_dir.security_dir) / fname
        write_private(path, json.dumps({**cdict, **self._group.fields()}, indent=2))


def _check_keys_of_every_socket(own: KeyPair, group: KeyPair) -> None:
    """Have each process of the controller refuse keys other than these two.

    Its relays, schedulers and heart monitor are forked from this process, and listen by the
    function that is replaced here, each in a ZeroMQ context of its own.
    """

    def bind(socket: Any, url: str, **keys: Any) -> Any:
        plain = socket.socket if isinstance(socket, ZMQStream) else socket
        refuse_others(plain.context, own, group)
        return _plain_bind(socket, url, **keys)

    util.bind = heartmonitor.bind = bind
    GuardedProcessQueue.known = (own, group)
    use_for_all(own)  # for what connects from inside the controller


def main() -> None:
    """Run the controller until it is ended."""
    os.umask(0o077)
    multiprocessing.set_start_method("fork")  # children inherit the replaced functions
    heart_monitor.use()
    GroupController.launch_instance()


if __name__ == "__main__":
    # By its full name, under which `mq_class` finds it again: the same class, not a copy.
    from eai_notebook.cluster.controller import main as run

    run()
