"""`eai-notebook run` and `eai-notebook jobs`: a notebook as a job, and the jobs that there are."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from eai_notebook.cluster.launcher_registry import launcher_options
from eai_notebook.errors import EaiError
from eai_notebook.terminal import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.launcher import Option
    from eai_notebook.jobs.job_folder import Job, Result

INTERRUPTED = 130


class RunCommand(TyperCommand):
    """Takes ``-p NAME VALUE``, as papermill does, and ``--kube`` with or without a file, as `%eai up` does.

    Typer has no option of two values that repeats, and none whose value may be missing.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join name and value, and add values that are missing."""
        joined: list[str] = []
        words = deque(args)
        bare = {each.text: each.bare for each in launcher_options().values()}
        while words:
            word = words.popleft()
            joined.append(word)
            if word == "-p":
                joined.append(_pair(words))
            elif bare.get(word) is not None and not _is_value(words):
                joined.append(str(bare[word]))
        parsed: list[str] = super().parse_args(ctx, joined)
        return parsed


def _pair(words: deque[str]) -> str:
    name = words.popleft() if words else ""
    if "=" in name:
        return name
    if not words:
        raise EaiError(f"-p {name} has no value", "write `-p NAME VALUE`", code="parameter-unknown")
    return f"{name}={words.popleft()}"


def _is_value(words: deque[str]) -> bool:
    """Return whether the next word is an option's value: no option, and not the notebook."""
    return bool(words) and not words[0].startswith("-") and not words[0].endswith(".ipynb")


def _with_launcher_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all launchers to a command; it gets them as keywords."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    added = [_parameter(option) for option in launcher_options().values()]

    def run(**given: Any) -> None:
        command(**given)

    run.__doc__ = command.__doc__
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
    return run


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = bool if option.flag else option.type if isinstance(option.type, type) else str
    settings: dict[str, Any] = {"help": option.help, "rich_help_panel": "Where the ranks run"}
    if not option.flag:
        settings["metavar"] = option.metavar
    wanted: Any = kind if option.flag else kind | None
    annotation: Any = Annotated[wanted, typer.Option(option.text, **settings)]
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if option.flag else None,
        annotation=annotation,
    )


@_with_launcher_options
def run(
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="The notebook.")],
    *,
    size: Annotated[
        int | None,
        typer.Option("-n", metavar="N", help="Ranks, in place of the notebook's own number."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p", metavar="NAME VALUE", help="A parameter: a name of a cell tagged `parameters`."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The job's folder (default: a new one in .eai/jobs)."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; the job goes on.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print what would be submitted, and submit nothing.")
    ] = False,
    launcher: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where ranks run, if no other option says it."),
    ] = None,
    **options: Any,
) -> None:
    """Run a notebook from top to bottom without a browser, on this machine, on hosts or as a job.

    Output comes line by line. The options given replace those of the notebook's `%eai up`, so that the
    same notebook runs interactively and as a job. With --slurm or --kube the whole notebook, its kernel
    included, is one job. The folder then holds all that was sent, the output and the executed notebook,
    also after an error. Ctrl-C interrupts the cell, or cancels the job. The exit code is that of the
    notebook: 0, or 1 if a cell failed.
    """
    from eai_notebook.jobs import start_job
    from eai_notebook.jobs.parameters import parse_value

    pairs = [each.partition("=") for each in parameter or ()]
    values = {name: parse_value(text) for name, _, text in pairs}
    start = start_job.Start(
        start_job.read(notebook),
        notebook,
        size=size,
        options=options,
        launcher=launcher,
        parameters=values,
    )
    if show:
        console.out.print(start.describe(out), highlight=False, markup=False)
        return
    job = start.make_job(out)
    if start.is_batch or detach:
        title = start.submit(job)
        console.note(f"job {job.name}: {title}; folder {job.folder}")
        if detach:
            console.out.print(
                f"follow it: eai-notebook jobs {job.name} --follow\n"
                f"cancel it: eai-notebook jobs {job.name} --cancel",
                highlight=False,
            )
            return
        _leave(job, _followed(job))
    else:
        _leave(job, start.run_here(job, _write))


def jobs(
    name: Annotated[
        str | None, typer.Argument(metavar="JOB", help="One job: its name, number or folder.")
    ] = None,
    *,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Show its output until it ends; Ctrl-C leaves it running."),
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it.")] = False,
) -> None:
    """List the jobs that were started with `eai-notebook run` or `%eai submit`; follow or cancel one."""
    from eai_notebook.jobs import start_job
    from eai_notebook.jobs.job_folder import find_job
    from eai_notebook.jobs.job_folder import jobs as all_jobs

    if name is None:
        if follow or cancel:
            raise EaiError(
                "which job?", "name it: `eai-notebook jobs` lists them", code="job-unknown"
            )
        console.out.print(start_job.table(all_jobs()), highlight=False, markup=False)
        return
    job = find_job(name)
    if cancel:
        start_job.cancel(name)
        console.note(f"job {job.name} was asked to end")
    elif follow:
        _leave(job, start_job.follow(job, _write, console.note))
    else:
        console.out.print(start_job.table([job]), highlight=False, markup=False)


def _followed(job: Job) -> Result:
    """Follow a job that this command has submitted; Ctrl-C cancels it."""
    from eai_notebook.jobs import start_job

    try:
        return start_job.follow(job, _write, console.note)
    except KeyboardInterrupt:
        console.note("cancelling the job")
        start_job.batch_of(job).cancel(job.identity)
        raise


def _leave(job: Job, result: Result) -> None:
    """End the command with the notebook's exit code."""
    console.note(f"{job.folder / job.notebook}")
    if result.code == INTERRUPTED:
        raise KeyboardInterrupt
    if result.code:
        raise EaiError(result.error, f"see {job.folder}", code="notebook-failed")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
