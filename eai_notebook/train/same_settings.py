"""Compare what the ranks train with: epochs, losses, metrics, the optimizer's settings.

A rank with another loss would pull all others its way, without an error; one with another number
of epochs would leave them waiting at the end.
"""

from __future__ import annotations

import json
import types
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train.data_sharding import say
from eai_notebook.train.layer_state import instructions, pruned

if TYPE_CHECKING:
    from collections.abc import Mapping

    import keras

CLASS_WEIGHT: Final = "class_weight"
_SHARED: Final = "learning_rate"
"""What of an optimizer is rank 0's on all ranks anyway."""


def check(settings: Mapping[str, Any]) -> None:
    """Raise on all ranks if one has another setting than rank 0; all must call it together.

    Other class weights are only said: what they are computed from may be each rank's own rows.

    Args:
        settings: By name, the same names on all ranks; numbers, texts, functions, objects of
            Keras's, and lists and dicts of them.

    Raises:
        EaiError: It names the first setting that differs, and the rank.

    Examples:
        >>> check({"epochs": 3, "loss": ["mse", None]})
    """
    if collective.size() == 1:
        return
    texts = {name: _described(value) for name, value in settings.items()}
    sums = np.array([zlib.crc32(text.encode()) for text in texts.values()], np.int64)
    table = collective.gather_numpy(sums)
    for index, name in enumerate(texts):
        others = np.flatnonzero(table[:, index] != table[0, index])
        if not len(others):
            continue
        if name == CLASS_WEIGHT:
            say(
                f"rank {others[0]} weighs the classes otherwise than rank 0, so its rows count "
                "otherwise: compute class_weight from all rows, before eai.shard"
            )
            continue
        raise EaiError(
            f"rank {others[0]} trains with another `{name}` than rank 0",
            f"give all ranks the same {name}; what only one rank should do goes into a callback",
            code="ranks-have-different-settings",
        )


def check_compiled(model: keras.Model) -> None:
    """Raise on all ranks if `model` is compiled otherwise on one; all must call it together.

    Raises:
        EaiError: It names what differs, and the rank.
    """
    loss, metrics = (getattr(model, f"_compile_{what}", None) for what in ("loss", "metrics"))
    measured = [
        getattr(metrics, f"_user_{which}", None) for which in ("metrics", "weighted_metrics")
    ]
    check(
        {
            "loss": getattr(loss, "_user_loss", None),
            "loss_weights": getattr(loss, "_user_loss_weights", None),
            "metrics": measured,
            "optimizer": model.optimizer,
            "steps_per_execution": getattr(model, "steps_per_execution", 1),
        }
    )


def _described(value: Any) -> str:
    """Return a text that is equal for equal settings."""
    return json.dumps(_plain(value), sort_keys=True, default=lambda each: type(each).__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items() if name != _SHARED}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    elif isinstance(value, types.FunctionType):
        value = instructions(value.__code__)
    elif hasattr(value, "get_config") and not isinstance(value, type):
        try:
            value = [type(value).__name__, _plain(pruned(value.get_config()))]
        except Exception:  # noqa: BLE001 -- nobody needs a configuration to train with it
            value = type(value).__name__
    return value
