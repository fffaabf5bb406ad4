"""Run worked notebooks from top to bottom: ``tools/notebooks.py FOLDER [NAME]...``.

The executed notebooks, their HTML twins, their data and run records are left in FOLDER. All are
run, also when one fails; the exit code then is 1.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from eai_notebook.errors import EaiError
from eai_notebook.jobs import headless

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def run(path: Path, place: Path) -> None:
    """Execute one notebook in `place`, printing each cell's title and time."""
    notebook = headless.read_notebook(path)
    listener = headless.Listener(
        cell=lambda number, count, title: sys.stdout.write(f"  {number}/{count} {title}"),
        text=lambda _: None,
        done=lambda seconds: sys.stdout.write(f": {seconds:.1f} s\n") and sys.stdout.flush(),
    )
    try:
        headless.execute(notebook, place, listener)
    finally:
        headless.write_notebook(notebook, place / path.name)
        headless.write_html(notebook, place / f"{path.stem}.html")


def main(folder: str, *names: str) -> int:
    """Run the notebooks whose names begin with one of `names`, or all."""
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    os.environ["EAI_RUNS"] = str(place / "runs")  # the kernels inherit it
    failed = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if names and not path.name.startswith(names):
            continue
        sys.stdout.write(f"{path.name}\n")
        began = time.monotonic()
        try:
            run(path, place)
        except EaiError as error:
            failed.append(path.name)
            sys.stdout.write(f"\n  {error}\n")
        sys.stdout.write(f"  {time.monotonic() - began:.0f} s in all\n")
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else f"all ran; see {folder}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["build/notebooks"])))
