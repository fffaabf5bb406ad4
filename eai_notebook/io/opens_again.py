"""Data that knows how it was opened, so that a virtual rank can open its own of the same files."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.io.pipeline.dataset import InputData

Given = ParamSpec("Given")


def opens_again(reader: Callable[Given, InputData]) -> Callable[Given, InputData]:
    """Give the data of `reader` the function ``open_again``, which opens the same files once more."""

    @functools.wraps(reader)
    def opened(*args: Given.args, **options: Given.kwargs) -> InputData:
        data = reader(*args, **options)
        again: Callable[[], Any] = functools.partial(reader, *args, **options)
        data.open_again = again
        return data

    return opened
