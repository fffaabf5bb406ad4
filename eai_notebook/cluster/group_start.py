"""Start a group by any launcher: controller, ranks' command, client; all of it or nothing."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import ipyparallel
from traitlets.config import Config

from eai_notebook.cluster import registry
from eai_notebook.cluster.client import GroupClient, connection_file
from eai_notebook.cluster.group import Group, ending_all
from eai_notebook.cluster.interruptible import never, run_interruptible
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.cluster.mpirun_output import cause_of_death, in_brackets, start_remedy
from eai_notebook.cluster.process_launchers import CONTROLLER, RANKS, output_of, quiet_log
from eai_notebook.cluster.rank_requests import keep_listening
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import Lease
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.interruptible import Progress
    from eai_notebook.cluster.launcher import Launcher

POLL_S = 0.02
LOOK_S = 1.0
"""How often the output is looked at for a rank that has ended."""
END_S = 5.0
"""How long ``mpirun`` may take to end after it has reported that."""


def start_group(
    launcher: Launcher, progress: Progress, is_stopped: Callable[[], bool] = never
) -> Group:
    """Start a group; on any failure or interrupt nothing is left running.

    The launcher has been prepared. `is_stopped` is asked now and then whether to stop, as by an
    interrupt.
    """
    find_mpirun()
    try:
        return run_interruptible(partial(_twice, partial(_start, launcher)), progress, is_stopped)
    except OSError as error:  # of a file or a process that the start needs
        what = f"the group could not start ({error})"
        raise EaiError(what, start_remedy(), code="start-failed") from error


def _start(launcher: Launcher, progress: Progress) -> Group:
    lease = Lease()
    # No parent and no profile: the user's ipyparallel settings are for their own clusters.
    # The folder of its own, with its keys and logs, goes when the group goes.
    entry = registry.register(launcher.size, launcher.name, launcher.given)
    folder = str(entry.folder)
    lease.cover_folder(folder)
    address = launcher.controller_address
    cluster = ipyparallel.Cluster(
        controller=CONTROLLER,
        engines=RANKS,
        n=launcher.size,
        delay=0,
        controller_ip=address or "",
        controller_args=_controller_arguments(away=launcher.is_away),
        send_engines_connection_env=False,  # mpirun would send the keys over the network
        profile_dir=folder,
        load_profile=False,
        config=Config(),
        log=quiet_log(),
    )
    client = None
    try:
        progress("starting the controller")
        _start_controller(cluster)
        entry.processes = lease.cover([cluster.controller.process.pid])
        entry.write()
        with launcher.rank_files(entry) as file:
            _start_ranks(cluster, launcher, entry, file)
            entry.processes += lease.cover([cluster.engine_set.process.pid])
            entry.write()
            launcher.started(entry)
            client = GroupClient(connection_file(entry), cluster=cluster, profile_dir=folder)
            keep_listening(client)
            _wait_for_ranks(cluster, client, launcher, progress)
        return Group(launcher, cluster, client, lease, entry)
    except BaseException:
        with ending_all(entry):
            if client is not None:
                client.close()
            cluster._in_thread(cluster.stop_cluster)  # noqa: SLF001
        launcher.end()
        lease.end()
        raise


class _NoControllerError(EaiError):
    """The controller ended before it could be reached."""


def _start_controller(cluster: Any) -> None:
    """Start the controller; raise if it does not live until others can connect."""
    try:
        cluster._in_thread(cluster.start_controller)  # noqa: SLF001  # its loop must go on
        cluster._in_thread(cluster.controller.get_connection_info)  # noqa: SLF001
    except (RuntimeError, TimeoutError) as error:
        what = f"the controller did not start ({error})"
        remedy = "run `eai-notebook check`"
        raise _NoControllerError(what, remedy, code="controller-failed") from error


def _start_ranks(cluster: Any, launcher: Launcher, entry: registry.Entry, file: str) -> None:
    """Start the launcher's command; each rank reads its connection from `file`."""
    rank = module_command(
        "eai_notebook.cluster.engine_process", "--mpi", f"--IPEngine.url_file={file}"
    )
    settings = {"environment": launcher.environment(), "command": launcher.command(rank, entry)}
    cluster._in_thread(partial(cluster.start_engines, **settings))  # noqa: SLF001


def _twice(start: Callable[[Progress], Group], progress: Progress) -> Group:
    """Start a group, and once more if its controller ended at once.

    It listens on ports that it has found free a moment before: of two that start together on one
    machine, one may come late.
    """
    try:
        return start(progress)
    except _NoControllerError:
        progress("starting the controller once more")
        return start(progress)


def _wait_for_ranks(cluster: Any, client: Any, launcher: Launcher, progress: Progress) -> None:
    """Return when all ranks have registered; raise if they cannot."""
    size, since = launcher.size, time.monotonic()
    looked, died = since, None
    while (count := len(client.ids)) < size:
        progress(launcher.progress(count))
        if cluster.controller.state == "after":
            what = "the controller ended before all ranks were up"
            raise _NoControllerError(what, start_remedy(), code="controller-failed")
        if cluster.engine_set.state == "after":
            raise _start_failure(cluster, launcher, "mpirun ended before all ranks were up")
        # It may hang as it ends: PMIx 5 can wait for itself where a rank was still connecting.
        if died is None and time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            died = looked if cause_of_death(output_of(cluster)) else None
        if died is not None and time.monotonic() - died > END_S:
            raise _start_failure(cluster, launcher, "a rank ended before all ranks were up")
        if launcher.is_queued:
            since = time.monotonic()
        elif time.monotonic() - since > launcher.start_timeout_s:
            raise _start_failure(cluster, launcher, f"only {count} of {size} ranks were up in time")
        time.sleep(POLL_S)
    progress(f"{size} of {size} ranks are up")


def _start_failure(cluster: Any, launcher: Launcher, what: str) -> EaiError:
    """Return an error with the last words of ``mpirun``, which usually say what is wrong."""
    log = output_of(cluster)
    found = launcher.explain_exit(log)
    words = f"{what}: {found}" if found else what + in_brackets(log)
    return EaiError(words, start_remedy(), code="start-failed")


def _controller_arguments(*, away: bool) -> list[str]:
    """Return the arguments of the controller.

    CurveZMQ encrypts and authenticates, on one machine as well: its other users reach loopback,
    too. A rank on another host that is silent for ten seconds is gone.
    """
    words = ["--IPController.enable_curve=True"]
    if away:
        words += [
            "--HeartMonitor.period=1000",
            "--HeartMonitor.max_heartmonitor_misses=10",
        ]
    return words
