"""Models for click logs and images: each function returns a plain `keras.Model`.

Names are loaded when first used: the quality figures need NumPy only, the models Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eai_notebook.models.recommendation import wide_deep
    from eai_notebook.quality import auc

__all__ = ["auc", "wide_deep"]


def __getattr__(name: str) -> Any:
    if name == "auc":
        from eai_notebook.quality import auc

        return auc
    if name == "wide_deep":
        from eai_notebook.models.recommendation import wide_deep

        return wide_deep
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
