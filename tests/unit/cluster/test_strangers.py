"""What somebody without the group's keys can do to it: nothing, on loopback or from outside."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import zmq
from jupyter_client.session import Session as Messages
from waiting import PATIENCE_S

from eai_notebook.cluster import listening, registry
from eai_notebook.cluster.client import GroupClient, connection_file
from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.keys import KeyPair
from eai_notebook.cluster.launcher_registry import make_launcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eai_notebook.cluster.group import Group

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PRINTED = "what-the-ranks-print"
ANSWER_MS = 1500
NOBODY = 65534


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """A group of two engines, started with a umask that withholds nothing."""
    before = os.umask(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        patch.setenv("HOROVOD_TOKEN", PRINTED)
        made = start_group(make_launcher(2, {}), lambda _words: None)
        os.umask(before)
        yield made
        made.stop()
        os.umask(before)


def family(group: Group) -> list[psutil.Process]:
    """Return all processes of a group, the kernel's own among them."""
    found = {psutil.Process()}
    for pid, *_ in group.entry.processes:
        if psutil.pid_exists(pid):
            found |= {psutil.Process(pid), *psutil.Process(pid).children(recursive=True)}
    return list(found)


def doors(group: Group) -> list[str]:
    """Return where the group listens, as ZeroMQ names it."""
    found = set()
    for process in family(group):
        for end in process.net_connections("inet"):
            if end.status == psutil.CONN_LISTEN and end.laddr.ip == "127.0.0.1":
                found.add(f"tcp://127.0.0.1:{end.laddr.port}")
    return sorted(found)


def connection(group: Group) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(connection_file(group.entry).read_text())
    return loaded


def answers(group: Group, pair: KeyPair, server: bytes) -> bool:
    """Return whether the controller answers somebody who connects with these keys."""
    known = connection(group)
    with zmq.Context() as context, context.socket(zmq.DEALER) as line:
        line.linger = 0
        line.curve_serverkey, line.curve_publickey, line.curve_secretkey = (
            server,
            pair.public,
            pair.secret,
        )
        line.connect(f"{known['interface']}:{known['registration']}")
        Messages(key=b"").send(line, "connection_request")
        return bool(line.poll(ANSWER_MS))


def test_a_stranger_hears_nothing_and_takes_nothing(group: Group) -> None:
    with zmq.Context() as context:
        lines = []
        for door in doors(group):
            for kind in (zmq.SUB, zmq.DEALER):
                line = context.socket(kind)
                line.linger = 0
                if kind == zmq.SUB:
                    line.subscribe(b"")
                line.connect(door)
                lines.append(line)
        assert lines
        for _ in range(3):  # each rank answers each time: no message went to somebody else
            result = group.view([0, 1]).apply_async(print, PRINTED)
            result.get(PATIENCE_S)
            sent = group.client.send_signal(0, targets=[0, 1], block=False)
            sent.result(timeout=PATIENCE_S)
        heard = [line.recv_multipart() for line in lines if line.poll(50)]
        for line in lines:
            line.close()
    assert not heard


def test_a_clients_own_key_is_checked_and_not_only_the_servers(group: Group) -> None:
    known = connection(group)
    server = known["curve_serverkey"].encode()
    assert answers(group, KeyPair.of(known) or KeyPair.make(), server)
    assert not answers(group, KeyPair.make(), server)


def test_every_listening_process_checks_keys(group: Group) -> None:
    # Somebody who knows the server keys, which CURVE does not keep secret, and no pair's secret.
    known = connection(group)
    servers = [known["curve_serverkey"].encode(), known["curve_publickey"].encode()]
    stranger = KeyPair.make()
    heard = []
    with zmq.Context() as context:
        lines = []
        for door in doors(group):
            for server in servers:
                line = context.socket(zmq.DEALER)
                line.linger, line.reconnect_ivl = 0, -1
                line.curve_serverkey = server
                line.curve_publickey, line.curve_secretkey = stranger.public, stranger.secret
                lines.append((door, line, line.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)))
                line.connect(door)
        time.sleep(ANSWER_MS / 1e3)
        for door, line, events in lines:
            if events.poll(0):
                heard.append(door)
            line.disable_monitor()
            events.close()
            line.close()
    assert not heard


def test_nothing_listens_beyond_loopback(group: Group) -> None:
    if listening.library() is None:
        pytest.skip("there is no C compiler here")
    group.view([0, 1]).execute("from mpi4py import MPI; MPI.COMM_WORLD.Barrier()", block=True)
    found = listening.listening(family(group))
    assert {"controller", "rank", "nanny"} <= found.keys()
    for program, places in found.items():
        assert all(ipaddress.ip_address(each).is_loopback for each in places), (program, places)


def test_no_key_is_in_an_argument_or_an_environment(group: Group) -> None:
    known = connection(group)
    secrets = {known[name] for name in ("curve_serverkey", "curve_publickey", "curve_secretkey")}
    for process in family(group):
        words = [*process.cmdline(), *process.environ().values()]
        assert not [word for word in words for secret in secrets if secret in word]


def test_other_users_cannot_read_the_groups_files(group: Group) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    folder = group.entry.folder
    # As if every folder above were open: what the group's own folder withholds is what counts.
    assert folder.stat().st_mode & 0o077 == 0
    assert registry.groups_folder().stat().st_mode & 0o077 == 0
    command = ["/bin/ls", str(folder)]
    done = subprocess.run(command, user=NOBODY, cwd="/", capture_output=True, check=False)
    assert done.returncode != 0
    assert not done.stdout


def test_a_group_works_with_the_keys_alone(group: Group) -> None:
    client = GroupClient(connection_file(group.entry))
    try:
        assert client.ids == [0, 1]
    finally:
        client.close()


def test_a_rank_passes_on_the_environment_as_it_was(group: Group) -> None:
    # `warm_up` ends the rule on listening; here it has not run yet.
    code = """
import os, socket
from eai_notebook.engine.startup import _listen_as_usual
_listen_as_usual()
with socket.create_server(("", 0)) as door:
    address = door.getsockname()[0]
left = [name for name in ("EAI_LISTEN", "LD_PRELOAD") if name in os.environ]
"""
    view = group.view([0])
    view.execute(code, block=True)
    anywhere = str(ipaddress.IPv4Address(0))
    assert view.pull(["address", "left"], block=True) == [[anywhere, []]]


def test_tensorflows_servers_listen_on_the_address_they_are_given(group: Group) -> None:
    if listening.library() is None:
        pytest.skip("there is no C compiler here")
    code = """
import tensorflow as tf
from eai_notebook.parameter_servers.server_tasks import _listening_on
with _listening_on("127.0.0.1"):
    server = tf.distribute.Server.create_local_server()
"""
    group.view([1]).execute(code, block=True)
    for program, places in listening.listening(family(group)).items():
        assert all(ipaddress.ip_address(each).is_loopback for each in places), (program, places)


@pytest.mark.parametrize("name", ["a folder", "a:b"])
def test_a_cache_that_the_loader_cannot_name_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    assert listening.library() is None
    assert listening.environment(listening.LOOPBACK, listening.library()) == {}


def test_somebody_elses_library_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "eai-notebook" / "listen"
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, NOBODY)
    assert listening.library() is None


def test_the_library_is_private_and_made_once() -> None:
    made = listening.library()
    if made is None:
        pytest.skip("there is no C compiler here")
    before = made.stat().st_mtime_ns
    assert listening.library() == made
    assert made.stat().st_mtime_ns == before
    assert Path(made).parent.stat().st_mode & 0o077 == 0
