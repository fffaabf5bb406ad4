"""Keep AutoGraph out of this package: it would rewrite our Python in a user's ``tf.function``.

That takes seconds where tracing takes tenths of one, and changes nothing: what we compute
with tensors is written with TensorFlow's own conditions and loops.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def not_converted(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Have `function`, and what it calls, traced as it is written.

    Examples:
        >>> not_converted(abs)(-1)
        1
    """

    @functools.wraps(function)
    def run(*arguments: _Arguments.args, **settings: _Arguments.kwargs) -> _Result:
        import tensorflow as tf

        as_written = tf.autograph.experimental.do_not_convert(function)
        result: _Result = as_written(*arguments, **settings)
        return result

    # How AutoGraph marks what it leaves alone; else it would rewrite this very wrapper.
    run.autograph_info__ = {}  # type: ignore[attr-defined]
    return run
