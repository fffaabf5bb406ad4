"""`raises_code`: an `EaiError` is expected by its code and the facts that its text names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def raises_code(code: str, *facts: object) -> Iterator[pytest.ExceptionInfo[EaiError]]:
    """Expect an `EaiError` with a code, on one line that contains each of the facts.

    Facts are names, numbers and option values, never wording: texts may change.
    """
    with pytest.raises(EaiError) as caught:
        yield caught
    text = str(caught.value)
    assert caught.value.code == code, text
    assert [fact for fact in facts if str(fact) not in text] == [], text
    assert "\n" not in text
