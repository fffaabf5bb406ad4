"""The error that users meet, and that it survives a journey between processes."""

from __future__ import annotations

import pickle

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.io.pipeline.epoch import ClosedError


@pytest.mark.parametrize("error", [EaiError("no group is running", "start one"), ClosedError()])
def test_it_is_pickled_whole(error: EaiError) -> None:
    vars(error)["row"] = 7
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == {
        "what": error.what,
        "remedy": error.remedy,
        "code": error.code,
        "row": 7,
    }
