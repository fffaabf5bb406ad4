"""The client of a group: ipyparallel's, which connects with the group's key pair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ipyparallel

from eai_notebook.cluster.keys import KeyPair
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.cluster import registry


class GroupClient(ipyparallel.Client):
    """A client that shows the controller the key it lets in.

    Args:
        file: The connection file that the group's controller wrote.
        **settings: As `ipyparallel.Client` takes them.
    """

    def __init__(self, file: Path, **settings: Any) -> None:
        connection = json.loads(file.read_text())
        if pair := KeyPair.of(connection):
            self.curve_publickey, self.curve_secretkey = pair.public, pair.secret
        super().__init__(connection, **settings)


def connection_file(entry: registry.Entry, who: str = "client") -> Path:
    """Return the file with which a ``client`` or an ``engine`` connects to a group.

    Raises:
        EaiError: the group's controller is gone, and the file with it.
    """
    found = next((entry.folder / "security").glob(f"ipcontroller*-{who}.json"), None)
    if found is None:
        what = f"group {entry.name} has no connection file any more"
        raise EaiError(what, "start a new group with `%eai up`", code="group-unknown")
    return found
