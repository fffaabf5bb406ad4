"""`eai-notebook convert`: write click logs in a format that is cheaper to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eai_notebook.terminal import console
from eai_notebook.terminal.progress import progress


def convert(
    source: Annotated[str, typer.Argument(help="A glob, a folder, a file or a URL.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the files; created if missing.")],
    to: Annotated[
        Literal["parquet", "arrow", "tfrecord", "binary"], typer.Option(help="The format to write.")
    ] = "parquet",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip bad rows and count them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier conversion in FOLDER.")
    ] = False,
) -> None:
    """Convert click logs in Criteo's format to one that costs a fraction to read.

    Writes one file for each input file. FOLDER appears when it is complete. "binary" holds
    features hashed as in eai.io.CRITEO; the other formats hold the values of the log.
    """
    from eai_notebook import io  # not needed for --help

    with progress(f"converting to {to}") as report:
        done = io.convert(
            source,
            folder,
            to=to,
            on_error="skip" if skip_bad else "raise",
            overwrite=overwrite,
            progress=report,
        )
    console.out.print(
        f"{done.rows:,} rows in {done.files} files in {folder}, {done.size / 1e6:,.1f} MB",
        highlight=False,
    )
    for path, count in done.skipped.items():
        console.note(f"{path}: {count:,} bad rows skipped")
