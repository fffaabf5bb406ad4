"""Errors of Python functions that TensorFlow calls: found in its report, and said first."""

from __future__ import annotations

import re
from typing import Final

from eai_notebook.errors import EaiError

_TRACEBACK: Final = "Traceback (most recent call last)"
_FRAME: Final = re.compile(
    r'File "([^"]*)", line (\d+), in (\S+)\n(?:\s+([^\s^].*)\n)?(?:[ ^~]+\n)?'
)
_RAISED: Final = re.compile(r"\s*([A-Za-z_][\w.]*(?:: .+)?)")
_OURS: Final = ("/tensorflow/python/", "/keras/src/")
_LONGEST: Final = 300


def of_python_function(error: BaseException) -> EaiError | None:
    r"""Return TensorFlow's report of an error in a Python function as ours; None if it is no such.

    Such a function is in ``dataset.map``, ``from_generator``, ``tf.py_function`` or
    ``tf.numpy_function``; TensorFlow puts its traceback into the text of an error of its own.

    Examples:
        >>> frame = '  File "a.py", line 3, in read\n    raise OSError("bad row")\n'
        >>> report = f"iterator: OSError: bad row\n{_TRACEBACK}:\n{frame}\nOSError: bad row\n"
        >>> of_python_function(RuntimeError(report)).what
        'the Python function read() raised OSError: bad row (line 3: `raise OSError("bad row")`)'
    """
    before, _, text = str(error).partition(_TRACEBACK)
    frames = list(_FRAME.finditer(text))
    raised = _RAISED.match(text, frames[-1].end()) if frames else None
    if not before or raised is None:
        return None
    what = raised[1].strip()[:_LONGEST]
    own = [frame for frame in frames if not any(each in frame[1] for each in _OURS)]
    if not own:
        found = f"a Python function that TensorFlow calls raised {what}"
    else:
        file, number, name, code = own[-1].groups()
        at = f"line {number}: `{code}`" if code else f"line {number} of {file}"
        found = f"the Python function {name}() raised {what} ({at})"
    return EaiError(
        found,
        "mend it, or the row that it cannot read; to try it without training, "
        "take a batch: `next(iter(data))`",
        code="data-function-failed",
    )
