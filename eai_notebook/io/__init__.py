"""Input: click logs from files to batches, read ahead while the model computes.

Names are loaded when first used: the schema and the generator need no TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.io.schema import CRITEO, ClickSchema

if TYPE_CHECKING:
    from eai_notebook.io.clicks import criteo
    from eai_notebook.io.flow.dataset import InputData

__all__ = ["CRITEO", "ClickSchema", "InputData", "criteo"]


def __getattr__(name: str) -> Any:
    if name == "criteo":
        from eai_notebook.io.clicks import criteo

        return criteo
    if name == "InputData":
        from eai_notebook.io.flow.dataset import InputData

        return InputData
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
