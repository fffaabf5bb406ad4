"""The ``ssh`` of an ``mpirun`` in a pod: has a command run in another pod, through the notebook's `pod_runner`.

So no pod needs sshd, and no account the right to ``exec`` in pods. Run by ``mpirun`` as ``... SOCKET HOST
COMMAND...``; its exit code is the command's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import zmq


def main() -> None:
    """Ask the agent of this pod, and wait for the command's end."""
    place, host, *command = sys.argv[1:]
    context: zmq.Context[Any] = zmq.Context()
    line = context.socket(zmq.REQ)
    line.connect(f"ipc://{place}")
    line.send(json.dumps({"host": host, "command": " ".join(command)}).encode())
    answer = json.loads(line.recv())
    sys.stderr.write(answer["text"])
    sys.exit(answer["code"])


if __name__ == "__main__":
    main()
