"""A self-contained script that describes a host; its text is run there by ssh.

It imports nothing of this package: what it is asked to compare may be missing or old.
First a line with what is asked comes in and a line with what was found goes out; then,
for every further line, the host's clock.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MARK = "eai-scout "


def version(name: str) -> str | None:
    """Return the installed version of a package; None where it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(names: list[str]) -> dict[str, str | None]:
    """Return the installed version of each package."""
    return {name: version(name) for name in names}


def fingerprint(package: str) -> str | None:
    """Return a digest of a package's Python files; None if it is not there.

    Two hosts may have the same version and yet different files, in a clone that one of
    them has not updated.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def way_back(address: str, port: int) -> dict[str, Any]:
    """Connect to the notebook's machine; return by which interface and network, or why not."""
    import psutil

    try:
        with socket.create_connection((address, port), timeout=5) as line:
            mine = line.getsockname()[0]
    except OSError as error:
        return {"error": error.strerror or str(error) or type(error).__name__}
    for name, ends in psutil.net_if_addrs().items():
        for end in ends:
            if end.family == socket.AF_INET and end.address == mine:
                return {"interface": name, "address": mine, "netmask": end.netmask}
    return {"interface": "?", "address": mine, "netmask": "255.255.255.255"}


def gpus() -> int:
    """Return how many GPUs the driver lists; 0 without a driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(done.stdout.strip().splitlines()) if done.returncode == 0 else 0


def machine() -> str | None:
    """Return what two names of one machine have in common; None where the system does not say.

    One kernel can hold several hosts, in containers or network namespaces: these differ in their
    network.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/net').st_ino}"  # noqa: PTH116
    except OSError:
        return None


def describe_host(asked: dict[str, Any]) -> dict[str, Any]:
    """Return everything the notebook's machine wants to know."""
    fabric = Path("/sys/class/infiniband")
    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME", ""),
        "python": sys.version.split()[0],
        "versions": versions(asked["packages"]),
        "fingerprint": fingerprint("eai_notebook"),
        "back": way_back(*asked["controller"]),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": gpus(),
        "fabric": fabric.is_dir() and any(fabric.iterdir()),
        "mpirun": os.access(asked["mpirun"], os.X_OK),
        "folder": os.path.isdir(asked["folder"]),  # noqa: PTH112
        "machine": machine(),
    }


def main() -> None:
    """Answer the request, then return the time as long as requests come."""
    # The mark separates the answer from the output of the shell's start-up files.
    sys.stdout.write(MARK + json.dumps(describe_host(json.loads(sys.stdin.readline()))) + "\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{time.time()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
