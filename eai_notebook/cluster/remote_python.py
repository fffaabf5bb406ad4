"""Run Python on another host through the system's ssh."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.python_command import code_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONNECT_S = 8
"""How long ssh may take to reach a host; mpirun gives up no sooner by itself."""

BOOT = "import json, sys; exec(json.loads(sys.stdin.readline()))"


_WHY: Final = re.compile(
    r"^ssh: |^kex_|^Host key|verification failed|Permission denied|Connection (?:closed|reset)"
    r"|Connection (?:refused|timed out)|No route to host|Too many authentication|Bad configuration"
    r"|No such file|not found|cannot execute|Error\b"
)
"""How the lines begin or what they hold in which ssh, or the shell behind it, says why it failed."""


def ssh_command() -> list[str]:
    """Return the ssh command line up to the host's name; ``EAI_SSH`` names another one.

    It never asks for a password: there is nobody to type it.
    """
    named = shlex.split(os.environ.get("EAI_SSH", "ssh"))
    return [*named, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}"]


def address_of(name: str) -> str | None:
    """Return the IPv4 address behind a name of the user's ssh settings; None if there is none."""
    return _resolved(_real_name(name), socket.AF_INET)


def has_address(name: str) -> bool:
    """Return whether there is any address behind a name of the user's ssh settings."""
    return _resolved(_real_name(name), socket.AF_UNSPEC) is not None


def _real_name(name: str) -> str:
    """Return the name or address that ssh connects to for `name`."""
    asked = [*ssh_command(), "-G", name]
    try:
        done = subprocess.run(
            asked, capture_output=True, text=True, errors="replace", check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return name
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    return next((line[1] for line in lines if line[0] == "hostname" and len(line) > 1), name)


def _resolved(real: str, family: socket.AddressFamily) -> str | None:
    try:
        found = socket.getaddrinfo(real, None, family, socket.SOCK_STREAM)
    except OSError:
        return None
    return str(found[0][4][0])


def local_address_to(address: str) -> str | None:
    """Return this machine's own address on the way to `address`; None without a way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect((address, 9))  # a datagram socket only looks up the route
        except OSError:
            return None
        return str(way.getsockname()[0])


def is_here(address: str | None) -> bool:
    """Return whether `address` is this machine's own."""
    return address is not None and local_address_to(address) == address


def open_python(name: str, source: str, *, here: bool) -> subprocess.Popen[str]:
    """Start this very Python on the host, running `source`; its stdin and stdout are pipes.

    The interpreter has to be at the same path there. With ``here`` no ssh is used.
    """
    command = ["env", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", *code_command(BOOT)]
    if not here:
        command = [*ssh_command(), name, "--", shlex.join(command)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    send_json(process, source)
    return process


def send_json(process: subprocess.Popen[str], message: Any) -> None:
    """Send one JSON line."""
    assert process.stdin is not None  # noqa: S101  PIPE was asked for
    try:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
    except BrokenPipeError:  # it has ended; its own words say why
        pass


_PUT: Final = """
import json, os, sys
path, text, most = json.loads(sys.stdin.readline())
folder, end = os.path.dirname(path), os.path.splitext(path)[1]
os.makedirs(folder, mode=0o700, exist_ok=True)
with open(path, "w") as file:
    file.write(text)
def age(name):
    try: return -os.stat(os.path.join(folder, name)).st_mtime
    except OSError: return 0.0
for name in sorted((name for name in os.listdir(folder) if name.endswith(end)), key=age)[most:]:
    try: os.unlink(os.path.join(folder, name))
    except OSError: pass
"""


def put_file(name: str, path: str, text: str, *, here: bool, most: int) -> str | None:
    """Write `text` to `path` on the host; return what went wrong, if anything did.

    Of the files beside it with the same suffix, the `most` newest stay.
    """
    process = open_python(name, _PUT, here=here)
    try:
        _, error = process.communicate(json.dumps([path, text, most]) + "\n", timeout=3 * CONNECT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no answer in {3 * CONNECT_S} s"
    return None if process.returncode == 0 else last_line(error)


def cause(said: str) -> str:
    r"""Return the line of what ssh printed that says why it failed, not one of a host's banner.

    Examples:
        >>> cause("Permission denied (publickey).\nPROPERTY OF ACME, KEEP OUT\n")
        'Permission denied (publickey).'
    """
    lines = [line.strip() for line in said.splitlines()]
    return last_line([line for line in lines if _WHY.search(line)] or lines)


_HOLD = """
import base64, json, os, socket, sys, time
kept, held = json.loads(sys.stdin.readline())
def write(path, data, mode):
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.path.islink(folder) or os.stat(folder).st_uid != os.geteuid():
        sys.exit(f"{folder} belongs to another user")
    os.chmod(folder, 0o700)
    new = f"{path}.{socket.gethostname()}.{os.getpid()}"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(base64.b64decode(data))
    os.replace(new, path)
for path, data in kept.items():
    if not os.path.exists(path):
        write(path, data, 0o700)
for path, data in held.items():
    write(path, data, 0o600)
    for name in os.listdir(os.path.dirname(path)):  # of a host that went down before
        old = os.path.join(os.path.dirname(path), name)
        if time.time() - os.stat(old).st_mtime > 86400:
            os.unlink(old)
print("held", flush=True)
sys.stdin.read()
for path in held:
    if os.path.exists(path):
        os.unlink(path)
"""


def hold_files(
    name: str, kept: Mapping[str, bytes], held: Mapping[str, bytes], *, here: bool
) -> subprocess.Popen[str]:
    """Write files on the host, for its user alone: some to stay, others as long as this runs.

    Both are contents by path. The ``held`` ones are gone once the process's stdin is closed, so
    also when this process dies. It says ``held`` when all are there. Contents travel inside ssh.
    """
    process = open_python(name, _HOLD, here=here)
    text = [
        {path: base64.b64encode(data).decode() for path, data in files.items()}
        for files in (kept, held)
    ]
    send_json(process, text)
    return process


def last_line(said: str | Sequence[str]) -> str:
    """Return the last line with anything in it, which is where programs say why."""
    lines = said.splitlines() if isinstance(said, str) else said
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "no reason given")
