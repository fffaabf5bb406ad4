"""A notebook's process that starts a group with the options given as JSON, says which processes belong to it, and waits."""

import json
import sys
import time

from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.launcher_registry import make_launcher

launcher = make_launcher(2, json.loads(sys.argv[1]))
launcher.prepare(lambda _words: None)
group = start_group(launcher, lambda _words: None)
assert group._lease is not None
pids = [group._lease._keeper.pid, *(pid for pid, _ in group.entry.processes)]
sys.stdout.write(" ".join(map(str, pids)) + "\n")
sys.stdout.flush()
time.sleep(600)
