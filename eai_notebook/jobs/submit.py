"""`%eai submit` and `%eai jobs`: cells of a session as a job, and the state of the jobs.

The libraries that read and execute notebooks are imported when they are needed: a rank's environment,
where the magics must work, may lack them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eai_notebook.jobs.start_job import Start
    from eai_notebook.session import Session


def submitted_cells(
    inputs: Sequence[str],
    asked: str | None,
    variables: Mapping[str, Any],
    session: Session | None,
    *,
    size: int | None,
    where: Mapping[str, Any],
    launcher: str | None,
    anyway: bool = False,
) -> Start:
    """Return a start of the cells that `asked` names.

    Args:
        inputs: IPython's history, whose last cell is running.
        asked: Cells by their numbers; see `cell_selection.choose`.
        variables: The notebook's variables.
        session: The group, whose size and launcher hold where nothing else is given.
        size: How many ranks.
        where: Options of launchers.
        launcher: The launcher's name.
        anyway: Go on although something that cells need is not sent.

    Raises:
        EaiError: There is no such cell, or they need what cannot be sent; nothing has been sent.
    """
    _check_libraries()
    from eai_notebook.jobs import cell_selection
    from eai_notebook.jobs.start_job import Start

    history = cell_selection.history_of(inputs)
    setup = [] if session is None else [code for code, _ in session.setup_cells]
    cells = cell_selection.choose(history, asked, setup)
    missing = cell_selection.not_carried(cells, history, variables)
    if missing and not anyway:
        raise EaiError(
            f"the cells need what cannot be sent: {', '.join(missing)}",
            "make it in a cell that is sent, as in `--cells setup,3,12`, or add --anyway",
            code="job-not-carried",
        )
    given = {name: value for name, value in where.items() if value not in (None, False)}
    wire = None
    if session is not None:
        size, wire = size or session.size, session.wire
        if not given and launcher is None:
            given, launcher = dict(session.launcher.given), session.launcher.name
    number = next((cell.number for cell in reversed(cells) if cell.number), 0)
    file = Path.cwd() / f"cell-{number}.ipynb"
    notebook = cell_selection.notebook_of(cells, size, wire)
    return Start(notebook, file, size=size, options=given, launcher=launcher)


def job_table(name: str | None) -> str:
    """Return all jobs, or the one of that name, as lines of text in columns."""
    _check_libraries()
    from eai_notebook.jobs import job_folder, start_job

    return start_job.table([job_folder.find_job(name)] if name else job_folder.jobs())


def _check_libraries() -> None:
    try:
        import nbclient  # noqa: F401
        import nbformat  # noqa: F401
    except ImportError as error:
        raise EaiError(
            f"jobs need {error.name}, which is not installed",
            "install eai_notebook[notebook]",
            code="package-missing",
        ) from error
