"""A notebook's process inside an allocation: a group on its nodes, then one on this machine."""

import socket
import sys

from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.launcher_registry import make_launcher

for size, options in ((None, {"slurm": True}), (2, {})):
    launcher = make_launcher(size, options)
    launcher.prepare(lambda _words: None)
    group = start_group(launcher, lambda _words: None)
    hosts = set(group.view(range(group.size)).apply_sync(socket.gethostname))
    group.stop()
    name = f"size {group.size}" if options else "without --slurm"
    sys.stdout.write(f"{name} on {len(hosts)} hosts\n")
