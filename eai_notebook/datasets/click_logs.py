"""Generate click logs in Criteo's format from a known model, whose best AUC is known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.datasets.atomic_folder import is_free, whole_folder
from eai_notebook.datasets.click_recipes import LOGS, find_recipe
from eai_notebook.errors import EaiError
from eai_notebook.metrics import auc

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

VERSION: Final = 1
"""The version of the generator; another version generates other data."""

TRUTH: Final = "truth.json"
_TEST_SHARE: Final = 8  # one file in eight is held out


@dataclass(frozen=True)
class Truth:
    """The description of generated data, stored beside it as ``truth.json``.

    Attributes:
        seed: The seed of all random numbers.
        rows: Rows in all files.
        files: Number of files, of which `test_files` are held out.
        test_files: Files named ``test-*``; the others are named ``train-*``.
        test_rows: Rows in the held-out files.
        ctr: Share of clicks in all rows.
        bayes_auc: The AUC of the true probabilities on all rows: no model is better on average;
            None if all labels are equal.
        bayes_auc_test: The same on the held-out rows.
        version: The version of the generator.
        recipe: The name of the recipe.
    """

    seed: int
    rows: int
    files: int
    test_files: int
    test_rows: int
    ctr: float
    bayes_auc: float | None
    bayes_auc_test: float | None
    version: int = VERSION
    recipe: str = LOGS.name

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Truth:
        """Read the description of the data in `folder`."""
        path = Path(folder) / TRUTH
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise EaiError(
                f"there is no {path}",
                "generate data with `eai-notebook make-data criteo`",
                code="truth-unreadable",
            ) from None
        except (ValueError, TypeError) as error:
            raise EaiError(
                f"{path} cannot be read ({error})",
                "delete the folder and generate the data again",
                code="truth-unreadable",
            ) from error


def criteo(
    folder: str | os.PathLike[str],
    rows: int,
    files: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    *,
    recipe: str = LOGS.name,
) -> Truth:
    """Write click logs in Criteo's format from a known model, whose best AUC is known.

    The last eighth of the files is held out as ``test-*.tsv``, the rest is ``train-*.tsv``. The same
    arguments give the same bytes. The folder appears when it is complete; if it already holds this
    data, nothing is written.

    Args:
        folder: The target; created if it does not exist.
        rows: Rows in all files together.
        files: The number of files, with equally many rows.
        seed: Another seed draws other effects, values and clicks.
        progress: Called with the number of rows just written.
        recipe: ``"logs"``, similar to published logs, or ``"rules"``; see
            `eai_notebook.datasets.click_recipes`.

    Returns:
        The description, also stored in ``truth.json``.

    Raises:
        EaiError: The folder holds something else or cannot be written, a number is out of range,
            or there is no such recipe.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     truth = criteo(Path(home) / "data", rows=2000, files=8)
        ...     names = sorted(path.name for path in (Path(home) / "data").iterdir())
        >>> names[0], names[-2:]
        ('test-0.tsv', ['train-6.tsv', 'truth.json'])
        >>> round(truth.bayes_auc or 0, 1)
        0.9
    """
    target = Path(folder)
    if files < 1 or rows < files:
        raise EaiError(
            f"{rows} rows in {files} files",
            "use at least one row for each file",
            code="option-invalid",
        )
    if seed < 0:
        raise EaiError(f"seed {seed} is negative", "use 0 or more", code="option-invalid")
    find_recipe(recipe)
    found = _already_there(target, (rows, files, seed, VERSION, recipe))
    if found is not None:
        if progress is not None:
            progress(rows)
        return found
    with whole_folder(target) as work:
        return _write_all(work, rows, files, seed, progress, recipe)


def _already_there(target: Path, expected: tuple[int, int, int, int, str]) -> Truth | None:
    """Return the description if `target` holds exactly this data; None if it is free."""
    if is_free(target):
        return None
    if (target / TRUTH).exists():
        truth = Truth.load(target)
        found = (truth.rows, truth.files, truth.seed, truth.version, truth.recipe)
        if found == expected:
            return truth
    raise EaiError(
        f"{target} already holds something else",
        "choose another folder, or delete this one",
        code="folder-not-empty",
    )


def _write_all(
    folder: Path,
    rows: int,
    files: int,
    seed: int,
    progress: Callable[[int], None] | None,
    recipe: str,
) -> Truth:
    # Imported here, because it compiles (Numba).
    from eai_notebook.datasets.click_model import PlantedModel
    from eai_notebook.datasets.click_tsv_writer import to_text

    model = PlantedModel(seed, find_recipe(recipe))
    names = file_names(files)
    labels, probabilities = [], []
    for part, name in enumerate(names):
        batch = model.draw(part, rows * (part + 1) // files - rows * part // files)
        to_text(batch).tofile(folder / name)
        labels.append(batch.labels)
        probabilities.append(batch.probabilities.astype(np.float32))
        if progress is not None:
            progress(len(batch.labels))
    test = sum(name.startswith("test-") for name in names)
    truth = Truth(
        seed=seed,
        rows=rows,
        files=files,
        test_files=test,
        test_rows=sum(len(part) for part in labels[files - test :]),
        ctr=float(np.mean(np.concatenate(labels))),
        bayes_auc=_bayes(np.concatenate(labels), np.concatenate(probabilities)),
        bayes_auc_test=_bayes(
            np.concatenate(labels[files - test :]), np.concatenate(probabilities[files - test :])
        )
        if test
        else None,
        recipe=recipe,
    )
    (folder / TRUTH).write_text(json.dumps(asdict(truth), indent=2) + "\n")
    return truth


def file_names(files: int) -> list[str]:
    """Return the names of the files, in the order in which their rows are drawn.

    Examples:
        >>> file_names(8)[-2:]
        ['train-6.tsv', 'test-0.tsv']
    """
    test = files // _TEST_SHARE
    width = len(str(files - 1))
    train = [f"train-{number:0{width}d}.tsv" for number in range(files - test)]
    return train + [f"test-{number:0{width}d}.tsv" for number in range(test)]


def _bayes(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the AUC of the true probabilities; None if all labels are equal."""
    if labels.min() == labels.max():
        return None
    return auc(labels, probabilities)
