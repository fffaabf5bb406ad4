"""The registry of launchers: their names, their options, and the launcher that options select.

Launchers come from the entry points of the group ``eai_notebook.launchers``, the package's own among
them.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from eai_notebook.cluster.launcher import Launcher, Option

GROUP: Final = "eai_notebook.launchers"
LOCAL: Final = "local"
_BUILT_IN: Final = {
    "local": "LocalLauncher",
    "ssh": "SshLauncher",
    "slurm": "SlurmLauncher",
    "kube": "KubeLauncher",
}


@cache
def _found() -> dict[str, EntryPoint | None]:
    """Return the entry point of each name; the package's own need none to be installed."""
    others = {point.name: point for point in entry_points(group=GROUP)}
    return {**dict.fromkeys(_BUILT_IN), **others}


def launcher_names() -> tuple[str, ...]:
    """Return the names of all launchers, the package's own first.

    Examples:
        >>> launcher_names()[:2]
        ('local', 'ssh')
    """
    return tuple(_found())


@cache
def launcher_class(name: str) -> type[Launcher]:
    """Return the launcher `name`.

    Raises:
        EaiError: There is none of that name, or its package cannot be loaded.
    """
    if name not in _found():
        raise EaiError(
            f"unknown launcher {name!r}",
            f"use one of {', '.join(launcher_names())}",
            code="launcher-unknown",
        )
    point = _found()[name]
    if point is None:
        module = import_module(f"eai_notebook.cluster.launchers.{name}")
        own: type[Launcher] = getattr(module, _BUILT_IN[name])
        return own
    try:
        found: type[Launcher] = point.load()
    except Exception as error:
        raise EaiError(
            f"the launcher {name!r} of {point.value} cannot be loaded: {error}",
            "mend or uninstall the package that it comes from",
            code="launcher-broken",
        ) from error
    return found


@cache
def launcher_options() -> dict[str, Option]:
    """Return the options of all launchers by name, each once; a launcher that is broken has none.

    Examples:
        >>> launcher_options()["hosts"].text
        '--hosts'
    """
    found: dict[str, Option] = {}
    for kind in _launchers():
        for option in kind.options:
            found.setdefault(option.name, option)
    return found


def make_launcher(
    size: int | None, options: Mapping[str, Any], name: str | None = None
) -> Launcher:
    """Return the launcher `name`, or the one that `options` select; the local one by default.

    Options of None or False count as not given.

    Raises:
        EaiError: The options select two launchers, are of another one, or cannot be met.

    Examples:
        >>> make_launcher(2, {}).name, make_launcher(None, {"hosts": "h1:2,h2:2"}).size
        ('local', 4)
    """
    given = {key: value for key, value in options.items() if value not in (None, False)}
    kind = launcher_class(name or _selected(given))
    _check_options(kind, given)
    return kind(size, given)


def _selected(given: Mapping[str, Any]) -> str:
    selected = [kind for kind in _launchers() if kind.selected_by in given]
    if len(selected) > 1:
        texts = " and ".join(f"--{kind.selected_by}" for kind in selected)
        raise EaiError(
            f"{texts} name two places for one group", "use one of them", code="launcher-options"
        )
    return selected[0].name if selected else LOCAL


@cache
def _launchers() -> tuple[type[Launcher], ...]:
    """Return the launchers that can be loaded; one broken package must not take `%eai` away."""
    return tuple(kind for name in launcher_names() if (kind := _loaded(name)) is not None)


def _loaded(name: str) -> type[Launcher] | None:
    try:
        return launcher_class(name)
    except EaiError as error:
        logging.getLogger(__name__).warning("%s", error)
        return None


def _check_options(kind: type[Launcher], given: Mapping[str, Any]) -> None:
    """Refuse an option that the launcher would ignore."""
    known = {option.name for option in kind.options}
    for name in given:
        if name in known:
            continue
        owners = [
            f"--{other.selected_by or f'launcher {other.name}'}"
            for other in _launchers()
            if name in {option.name for option in other.options}
        ]
        text = f"--{name.replace('_', '-')}"
        if owners:
            remedy = f"it goes with {' or '.join(owners)}; or leave it out"
            raise EaiError(f"{text} is of no use here", remedy, code="launcher-options")
        raise EaiError(
            f"no launcher takes the option {name!r}",
            f"use {', '.join(sorted(launcher_options()))}",
            code="launcher-options",
        )
