"""`eai-notebook make-data`: generate data sets with a known best score."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eai_notebook.cli.command_app import CommandApp
from eai_notebook.errors import EaiError
from eai_notebook.terminal import console
from eai_notebook.terminal.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eai_notebook.datasets.click_logs import Truth

make_data = CommandApp(no_args_is_help=True, help="Generate data sets with a known best score.")


@make_data.command()
def criteo(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; created if missing.")],
    rows: Annotated[int, typer.Option(help="Rows in all files together.")] = 400_000,
    files: Annotated[int, typer.Option(help="Number of files.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
    recipe: Annotated[
        str,
        typer.Option(help="logs: similar to published ones; rules: with exceptions to memorise."),
    ] = "logs",
    force: Annotated[bool, typer.Option("--force", help="Replace the data in FOLDER.")] = False,
) -> None:
    """Generate click logs in Criteo's format with a known best AUC.

    A row is a label, 13 integers and 26 hexadecimal categories, separated by tabs, some of
    them missing. One file in eight is named test-*.tsv, the others train-*.tsv. If the
    folder already holds exactly this data, nothing is written.
    """
    truth = write_criteo(folder, rows=rows, files=files, seed=seed, recipe=recipe, force=force)
    best = "" if truth.bayes_auc is None else f"; the best possible AUC is {truth.bayes_auc:.4f}"
    console.out.print(
        f"{truth.rows:,} rows in {truth.files} files in {folder}{best}", highlight=False
    )


def write_criteo(
    folder: Path, *, rows: int, files: int, seed: int, recipe: str = "logs", force: bool = False
) -> Truth:
    """Write the files with progress, unless they exist, and return the truth about them.

    Raises:
        EaiError: A number is invalid, or `folder` holds something else.
    """
    from eai_notebook.datasets import click_logs  # NumPy is not needed for --help

    if force:
        _remove(folder, click_logs.TRUTH)
    with _counted(rows, "rows") as count:
        return click_logs.criteo(folder, rows, files, seed, progress=count, recipe=recipe)


@make_data.command()
def images(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; created if missing.")],
    kind: Annotated[
        str, typer.Option(help="planted: generated shapes; digits: handwritten.")
    ] = "planted",
    layout: Annotated[
        str, typer.Option(help="folders: JPEG files, one folder a class; tfrecord: as ImageNet's.")
    ] = "folders",
    pictures: Annotated[
        int, typer.Option(help="Number of images; one in eight is held out.")
    ] = 4096,
    classes: Annotated[int, typer.Option(help="Number of generated classes, 2 to 32.")] = 10,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed writes the same images.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the data in FOLDER.")] = False,
) -> None:
    """Generate images with a known best accuracy, or write scikit-learn's digits, as ImageNet's files.

    Folders are train/CLASS/*.jpg and val/CLASS/*.jpg; records are train-00000-of-00008 and so
    on, and validation-.... If the folder already holds exactly this data, nothing is written.
    """
    from eai_notebook.datasets import image_sets  # NumPy is not needed for --help

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # writing records logs a lot
    if force:
        _remove(folder, image_sets.TRUTH)
    with _counted(pictures, "images") as count:
        truth = image_sets.make_pictures(
            folder,
            kind=kind,
            layout=layout,
            pictures=pictures,
            classes=classes,
            size=size,
            seed=seed,
            progress=count,
        )
    console.out.print(
        f"{truth.train:,} images to train on and {truth.val:,} held out, "
        f"{len(truth.classes)} classes, in {folder}",
        highlight=False,
    )


@contextmanager
def _counted(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds to the number written and shows progress."""
    written = 0
    with progress(f"writing {total:,} {what}") as report:

        def count(more: int) -> None:
            nonlocal written
            written += more
            report(min(written / total, 1), f"{written:,} {what}")

        yield count


def _remove(folder: Path, truth: str) -> None:
    """Remove the data set in `folder`; refuse to remove anything else."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / truth).is_file():
        raise EaiError(
            f"{folder} holds other data (it has no {truth}), which --force does not remove",
            "name another folder, or delete this one yourself",
            code="folder-not-empty",
        )
    shutil.rmtree(folder)
