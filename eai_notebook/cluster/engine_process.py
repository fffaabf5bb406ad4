"""The program of one rank: ipyparallel's engine, with its group's keys and the user's folder last.

Run by ``mpirun`` as ``python_command.module_command("eai_notebook.cluster.engine_process")``.
ipyparallel puts the working folder first on ``sys.path``: a ``queue.py`` or ``tensorflow.py`` of
the user's would keep the rank from starting. Cells can still import the user's modules.

What it needs in order to connect
is in a file that only its user may read, never in its arguments or its environment: ``mpirun``
sends those to other hosts in the clear.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ipyparallel.engine.app import IPEngine
from traitlets.config import Config

from eai_notebook.cluster import orphaned_rank, rank_parent
from eai_notebook.cluster.keys import KeyPair, refuse_others
from eai_notebook.python_command import module_command

NANNY = "eai_notebook.cluster.nanny"
_FOLDER = ""
"""The working folder on ``sys.path``, wherever `os.chdir` may lead."""


class GroupEngine(IPEngine):
    """ipyparallel's engine, which connects with the group's key pair."""

    def init_engine(self) -> None:
        """Set the engine up, then move the working folder to the end of the path."""
        super().init_engine()
        sys.path[:] = [*(entry for entry in sys.path if entry != _FOLDER), _FOLDER]

    def load_connection_file(self) -> None:
        """Take the group's keys from the connection file."""
        super().load_connection_file()
        pair = KeyPair.of(self.connection_info)
        if pair is None or not self.curve_serverkey:
            self.log.fatal("The connection file holds no keys")
            self.exit(1)
            return
        self.curve_publickey, self.curve_secretkey = pair.public, pair.secret
        refuse_others(self.context, pair)
        if (parent := rank_parent.left_behind()) is not None:
            _outlive(parent, self.registration_url)

    def start_nanny(self, control_url: str) -> tuple[str, subprocess.Popen[bytes]]:
        """Start the process that passes signals on to this one; return where it listens."""
        settings = Config()
        settings.Session = self.config.Session
        return _start_nanny(
            pid=os.getpid(),
            engine_id=self.id,
            identity=self.bident,
            control_url=control_url,
            curve_serverkey=self.curve_serverkey,
            curve_secretkey=self.curve_secretkey,
            curve_publickey=self.curve_publickey,
            registration_url=self.registration_url,
            config=settings,
        )


def _outlive(parent: int, controller_url: str) -> None:
    """Have this rank outlive its parent and other hosts, as long as it reaches the controller."""
    from eai_notebook.collective import peer_sockets, survivors

    orphaned_rank.watch(parent, controller_url)
    survivors.end_where_cut_off(partial(orphaned_rank.is_reachable, controller_url))
    peer_sockets.give_up_silent_peers([urlsplit(controller_url).hostname or ""])


def _start_nanny(**asked: Any) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a nanny; ipyparallel's own function would start one that shows no key."""
    process = subprocess.Popen(
        module_command(NANNY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # its engine's signals are not its own
    )
    assert process.stdin is not None  # noqa: S101  PIPE was asked for
    assert process.stdout is not None  # noqa: S101  PIPE was asked for
    process.stdin.write(pickle.dumps(asked))  # by a pipe, from parent to child
    process.stdin.close()
    url = process.stdout.readline().decode().strip()
    if not url:
        process.terminate()
        message = "the nanny did not start"
        raise RuntimeError(message)
    return url, process


if __name__ == "__main__":
    from eai_notebook.cluster.engine_process import (
        GroupEngine as Engine,  # its one name, not __main__'s
    )

    rank_parent.split_off()
    Engine.launch_instance()
