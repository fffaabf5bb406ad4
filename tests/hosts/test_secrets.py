"""A group on two hosts, as seen from their network: no key, no output, no token, no open door."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hosts.doors import Doors
from hosts.sniffing import Sniffer
from waiting import PATIENCE_S, wait_until

from eai_notebook.cluster import listening, registry
from eai_notebook.cluster.client import connection_file
from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.launcher_registry import make_launcher

if TYPE_CHECKING:
    from hosts.cluster import Hosts

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

TOKEN, PRINTED = "token-in-the-environment", "what-the-ranks-print"
PROGRAMS = ("eai_notebook.cluster.engine_process", "prted", "eai_notebook.cluster.nanny")


def test_nothing_of_a_group_crosses_the_network_in_the_clear(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    for name in ("HOROVOD_TOKEN", "TF_API_TOKEN", "EAI_PASSWORD", "XLA_SECRET", "KERAS_HUB_KEY"):
        monkeypatch.setenv(name, TOKEN)
    launcher = make_launcher(None, {"hosts": [f"{name}:1" for name in hosts.names]})
    launcher.prepare(lambda _words: None)
    with Sniffer(hosts) as sniffer:
        group = start_group(launcher, lambda _words: None)
        try:
            known = json.loads(connection_file(group.entry).read_text())
            view = group.view([0, 1])
            view.execute("import os; from mpi4py import MPI; MPI.COMM_WORLD.Barrier()", block=True)
            view.apply_async(print, PRINTED).get(PATIENCE_S)
            view.execute("token = os.environ.get('HOROVOD_TOKEN')", block=True)
            left = view.pull("token", block=True)
            cache = Path(os.environ["XDG_CACHE_HOME"]) / "eai-notebook" / "keys"
            wait_until(lambda: not list(cache.iterdir()))
            remains = list(cache.iterdir())
            doors = Doors(hosts, PROGRAMS)
            doors.look()
        finally:
            group.stop()
    assert len(sniffer.caught) > 100_000
    secrets = [known[name] for name in ("curve_serverkey", "curve_publickey", "curve_secretkey")]
    for secret in (*secrets, TOKEN, PRINTED, "IPP_CONNECTION_INFO"):
        assert secret.encode() not in sniffer.caught
    assert left == [None, None]
    assert remains == []
    assert registry.entries() == []
    if listening.library() is not None:
        assert all(doors.seen[name] for name in hosts.names)
        assert not any(doors.open.values()), doors.open
