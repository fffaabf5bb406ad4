"""The architecture, read off the imports: which room may use which, no circles, unique names."""

from __future__ import annotations

import ast
import functools
import pkgutil
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import eai_notebook
from eai_notebook import datasets, io, models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PACKAGE = Path(eai_notebook.__file__).parent
ANYONE = {"_lazy", "bookkeeping", "errors", "process_lease", "python_command", "telemetry"}
MAY_USE = {
    "_lazy": set(),
    "bookkeeping": set(),
    "compiled": set(),
    "errors": set(),
    "files": {"errors"},
    "keras_names": set(),
    "metrics": {"errors"},
    "pickled": set(),
    "process_lease": {"python_command"},
    "python_command": set(),
    # What both processes share: messages and the number formats of the verdict.
    "telemetry": {"bookkeeping", "errors", "ledger"},
    "ledger": {"bookkeeping", "errors", "files", "telemetry"},
    "advice": {"errors", "ledger"},
    "forecast": {"errors", "ledger"},
    "collective": ANYONE,
    "compression": ANYONE | {"collective"},
    "io": ANYONE | {"collective", "compiled"},
    "formats": ANYONE | {"collective", "compiled", "io"},
    "clicklog": ANYONE | {"collective", "compiled", "io", "formats"},
    "datasets": ANYONE | {"compiled", "clicklog", "io", "metrics"},
    # Batch normalization over all ranks' samples is a layer that exchanges.
    "models": ANYONE | {"collective", "clicklog", "io", "metrics"},
    "schedules": ANYONE,
    "terminal": {"errors"},
    # The proof runs two ranks, as a local group does.
    "horovod_build": ANYONE | {"cluster", "collective", "files", "terminal"},
    "train": ANYONE
    | {"collective", "compression", "elastic", "ledger", "models", "parameter_servers"},
    "elastic": ANYONE | {"collective", "ledger", "train"},
    "parameter_servers": ANYONE | {"collective", "train"},
    "keras_archive": {"train"},
    # A rank's cells and variables are looked at for trainings and layers, inside functions.
    "engine": ANYONE | {"collective", "keras_archive", "pickled", "train"},
    # Its measuring programs run under a short mpirun of their own.
    "cluster": ANYONE | {"collective", "files"},
    # What a session has the ranks do is imported on the ranks, inside functions.
    # Of `collective` the kernel reads the registry of backends, which loads no library.
    "session": ANYONE | {"cluster", "collective", "compression", "engine", "ledger", "pickled"},
    "display": ANYONE | {"compression", "ledger"},
    # A job's notebook is executed here, and its state is asked of the launcher that runs it.
    "jobs": ANYONE | {"cluster", "files", "ledger", "session"},
    # `%eai list` reads the record of groups; everything else of the cluster goes by the session.
    "magics": ANYONE
    | {"advice", "forecast", "session", "display", "cluster", "compression", "jobs", "ledger"},
}
FACADES = {"__init__.py", "io/__init__.py", "models/__init__.py"}
"""Files that name the public names of other rooms; nothing is imported before it is used."""
ONLY_IN = {
    "horovod": {"collective"},
    "mpi4py": {"collective", "cluster", "elastic"},
    "ipyparallel": {"cluster", "engine", "session"},
}
KERNEL_SIDE = {
    "session",
    "cluster",
    "display",
    "jobs",
    "magics",
    "advice",
    "forecast",
    "ledger",
    "telemetry",
    "errors",
    "process_lease",
}


def files() -> Iterator[tuple[str, Path]]:
    """Yield each file of the package with its name below it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path


def module_of(name: str) -> str:
    """Return the dotted module name of a file below the package."""
    dotted = name.removesuffix(".py").replace("/", ".").removesuffix("__init__").rstrip(".")
    return f"eai_notebook.{dotted}".rstrip(".")


MODULES = {module_of(name) for name, _ in files()}


@functools.cache
def imports(path: Path, *, while_loading: bool = False) -> set[str]:
    """Return the full names of all modules that a file imports.

    With `while_loading` only those that are imported when the file is: not inside functions, and
    not for type checkers alone.
    """
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if while_loading and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def rooms() -> dict[str, set[str]]:
    """Return what each room imports."""
    found: dict[str, set[str]] = {}
    for name, path in files():
        if name not in FACADES:
            found.setdefault(name.split("/")[0].removesuffix(".py"), set()).update(imports(path))
    return found


@pytest.mark.parametrize("room", sorted(MAY_USE))
def test_a_room_uses_only_the_rooms_it_may(room: str) -> None:
    inside = {name.split(".")[1] for name in rooms()[room] if name.startswith("eai_notebook.")}
    used = {
        name for name in inside if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()
    }
    assert used - {room} <= MAY_USE[room]


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_imported_in_its_room_only(library: str) -> None:
    users = {
        room for room, names in rooms().items() if any(n.split(".")[0] == library for n in names)
    }
    assert users - {"cli"} <= ONLY_IN[library]


@pytest.mark.parametrize("room", sorted(KERNEL_SIDE))
def test_the_kernel_side_never_imports_tensorflow(room: str) -> None:
    assert not {n for n in rooms()[room] if n.split(".")[0] in {"tensorflow", "keras", "horovod"}}


@pytest.mark.parametrize("library", ["horovod", "mpi4py"])
def test_no_module_starts_mpi_by_being_imported(library: str) -> None:
    # MPI listens on all networks from its import on, in whatever process that is.
    assert not {
        name
        for name, path in files()
        for used in imports(path, while_loading=True)
        if used.split(".")[0] == library
    }


@pytest.mark.parametrize("while_loading", [True, False])
def test_no_module_imports_itself_by_way_of_others(*, while_loading: bool) -> None:
    """Imports inside functions and for types count, too, but those of a package's public names."""
    graph = {
        module_of(name): {
            used
            for used in imports(path, while_loading=while_loading) & MODULES
            if used != module_of(name) and not module_of(name).startswith(f"{used}.")
        }
        for name, path in files()
        if while_loading or path.name != "__init__.py"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_two_modules_have_the_same_name() -> None:
    stems = Counter(path.stem for _, path in files() if not path.stem.startswith("__"))
    assert [stem for stem, count in stems.items() if count > 1] == []


@pytest.mark.parametrize("name", [name for name, path in files() if path.stat().st_size])
def test_the_first_line_of_a_file_says_what_it_holds(name: str) -> None:
    first = (ast.get_docstring(ast.parse((PACKAGE / name).read_text())) or "").splitlines()
    assert first
    assert not first[0].startswith(("What ", "Who ", "Whether "))


def test_no_room_is_more_than_a_fifth_of_the_package() -> None:
    lines: Counter[str] = Counter()
    for name, path in files():
        lines[name.split("/")[0]] += len(path.read_text().splitlines())
    room, most = lines.most_common(1)[0]
    assert most <= 0.2 * lines.total(), room


@pytest.mark.parametrize("package", [io, models, datasets], ids=lambda package: package.__name__)
def test_no_module_takes_the_place_of_a_function(package: ModuleType) -> None:
    # Imported, a module would stand where the name was to be loaded when first used.
    modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(getattr(package, "__all__", ()))
