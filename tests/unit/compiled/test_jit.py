from __future__ import annotations

from typing import Any

from eai_notebook.clicklog import text_parser
from eai_notebook.compiled.jit import compiled


def test_function_with_nowhere_to_keep_it_is_still_compiled() -> None:
    home: dict[str, Any] = {}
    exec("def twice(x):\n    return 2 * x\n", home)  # noqa: S102 - code without a file
    twice = compiled(home["twice"])
    assert twice(4) == 8
    assert len(twice.signatures) == 1  # a plain Python function has none


def test_parser_is_kept_on_disk_and_frees_the_interpreter() -> None:
    function: Any = text_parser._parse
    assert type(function._cache).__name__ != "NullCache"
    assert function.targetoptions["nogil"]
