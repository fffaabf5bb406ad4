"""The Python in a cell's text: what it assigns, needs and imports, without running it."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from typing import TYPE_CHECKING

from IPython.core.inputtransformer2 import TransformerManager

if TYPE_CHECKING:
    from collections.abc import Iterator


def cell_magic(source: str) -> list[str]:
    r"""Return the line of a cell magic at the top of a cell, such as `%%distributed`, if there is one.

    Examples:
        >>> cell_magic("%%distributed --setup\nx = 1"), cell_magic("x = 1")
        (['%%distributed --setup'], [])
    """
    first = source.lstrip().partition("\n")[0]
    return [first] if first.startswith("%%") else []


def is_on_ranks(source: str) -> bool:
    r"""Return whether a cell runs on the ranks.

    Examples:
        >>> is_on_ranks("%%distributed\nx = 1"), is_on_ranks("x = 1")
        (True, False)
    """
    return any(line.split()[0] == "%%distributed" for line in cell_magic(source))


def python_of(source: str) -> str:
    r"""Return a cell's Python, with its magics as calls of IPython, as IPython itself makes it.

    Examples:
        >>> python_of("%%distributed\nx = 1")
        'x = 1\n'
    """
    if magic := cell_magic(source):
        if not is_on_ranks(source):
            return ""  # another language, or what its magic makes of it
        source = source.lstrip()[len(magic[0]) :].lstrip("\n")
    made: str = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
    return made


def assigned_names(source: str) -> set[str]:
    r"""Return the names that a cell makes in the namespace that it runs in.

    Examples:
        >>> sorted(assigned_names("import os.path\nfor i in range(3): x = i"))
        ['i', 'os', 'x']
    """
    table = _table(source)
    if table is None:
        return set()
    pulled = set(re.findall(r"^%eai pull (\w+)", source, re.MULTILINE))
    made = pulled | {each.get_name() for each in table.get_symbols() if _is_made(each)}
    return made | {name for scope in _scopes(table) for name in _globals_made(scope)}


def needed_names(source: str) -> set[str]:
    r"""Return the names that a cell reads and that neither it nor Python makes.

    A name that the cell makes counts as made wherever it reads it: which comes first is not looked at.

    Examples:
        >>> sorted(needed_names("y = x + len(z)\ndef f(a): return a + w"))
        ['w', 'x', 'z']
    """
    table = _table(source)
    if table is None:
        return set()
    read = {each.get_name() for each in table.get_symbols() if each.is_referenced()}
    for scope in _scopes(table):
        read |= {s.get_name() for s in scope.get_symbols() if s.is_referenced() and s.is_global()}
    known = set(dir(builtins)) | {"get_ipython", "display", "exit", "quit", "In", "Out"}
    return {name for name in read - assigned_names(source) - known if not name.startswith("__")}


def imported_modules(source: str) -> set[str]:
    r"""Return the top-level names of the modules that a cell or a file imports.

    Examples:
        >>> sorted(imported_modules("import a.b, c\nfrom d import e\nfrom . import f"))
        ['a', 'c', 'd']
    """
    tree = _tree(source)
    found: set[str] = set()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(python_of(source))
    except (SyntaxError, ValueError):  # it will say so when it runs
        return None


def _table(source: str) -> symtable.SymbolTable | None:
    try:
        return symtable.symtable(python_of(source), "cell", "exec")
    except (SyntaxError, ValueError):
        return None


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _is_made(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _globals_made(scope: symtable.SymbolTable) -> list[str]:
    return [s.get_name() for s in scope.get_symbols() if s.is_declared_global() and s.is_assigned()]
