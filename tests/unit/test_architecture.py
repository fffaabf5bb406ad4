"""The walls of the house: which room may use which, read off the imports."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import eai_notebook
from eai_notebook import io, models

if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = Path(eai_notebook.__file__).parent
ANYONE = {"errors", "ledger", "lease"}
MAY_USE = {
    "errors": set(),
    "quality": {"errors"},
    "ledger": {"errors"},
    "lease": set(),
    "collective": ANYONE,
    "io": ANYONE | {"collective", "quality"},
    # Batch norm over all ranks' samples is a layer that exchanges.
    "models": ANYONE | {"collective", "io", "quality"},
    "schedules": ANYONE,
    "train": ANYONE | {"collective"},
    "engine": ANYONE | {"collective"},
    "cluster": ANYONE,
    # What a session has the ranks do is imported on the ranks, inside functions.
    "session": ANYONE | {"cluster", "engine"},
    "display": ANYONE,
    # `%eai list` reads the record of groups; everything else of the cluster goes by the session.
    "magics": ANYONE | {"session", "display", "cluster"},
}
ONLY_IN = {
    "horovod": {"collective"},
    "mpi4py": {"collective"},
    "ipyparallel": {"cluster", "session"},
}
KERNEL_SIDE = {"session", "cluster", "display", "magics", "ledger", "errors", "lease"}


def imports(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms() -> dict[str, set[str]]:
    """Return what each room imports."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if path.name != "__init__.py" or path.parent != PACKAGE:
            found.setdefault(room, set()).update(imports(path))
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


@pytest.mark.parametrize("package", [io, models], ids=lambda package: package.__name__)
def test_no_module_takes_the_place_of_a_function(package: ModuleType) -> None:
    # Imported, a module would stand where the name was to be loaded when first used.
    modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)
