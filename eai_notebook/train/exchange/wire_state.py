"""State that wire formats keep between steps: scales and error feedback."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from eai_notebook import collective
from eai_notebook.compression.wire_registry import AUTO, check_wire, wire_format, wire_names
from eai_notebook.errors import EaiError
from eai_notebook.train.untraced_variable import untraced_variable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import tensorflow as tf

    from eai_notebook.train.exchange.buckets import Slice

Sparse = Literal["merged", "rows"]
"""How a sparse gradient reaches the optimizer.

``"merged"``: rows of the same index added up, before sending and after arrival: far less to
send where ids repeat, and the gradient that a dense one would have been. ``"rows"``: every row
as the backward pass made it, in fp32. Optimizers that square gradients (Adam, Ftrl, Adagrad
...) distinguish the two: Keras squares repeated rows one by one.
"""

SPARSE: Final[tuple[Sparse, ...]] = get_args(Sparse)


def default_format() -> str:
    """Return the format of an optimizer that names none: what its group was started with.

    Raises:
        EaiError: ``EAI_WIRE`` is no format.

    """
    named = os.environ.get("EAI_WIRE", "fp32")
    if named not in wire_names():
        raise EaiError(
            f"unknown wire format EAI_WIRE={named!r}",
            f"use one of {', '.join(wire_names())}",
            code="wire-format",
        )
    return named


OWED: Final = "owed/"
"""How the keys of what a rank has yet to send begin: each rank's own, all else is common."""


class Wire:
    """One optimizer's way of exchanging: formats, and the memory that some of them need.

    Memory is made when a step is first traced. A new ring empties it: the ranks may not
    have made the same steps before the old one broke, and must agree on every scale.

    Raises:
        EaiError: An unknown format.

    Examples:
        >>> wire = Wire("int8")
        >>> wire.variable("owed/dense", np.zeros(3, "f4")).shape.as_list(), list(wire.state())
        ([3], ['owed/dense'])
    """

    def __init__(self, wire: str = "fp32", sparse: str = "merged") -> None:
        check_wire(wire)
        if sparse not in SPARSE:
            raise EaiError(
                f"sparse={sparse!r} is unknown", f"use one of {SPARSE}", code="sparse-setting"
            )
        self.format = wire
        self.sparse = sparse
        self.now: Any = None
        """With ``"auto"``, the format of the step that is being traced, as `tryout.now` says."""
        self.tables: dict[str, Any] = {}
        """The embedding tables whose rows are exchanged, by the key of their memory."""
        self._variables: dict[str, tf.Variable] = {}
        self._initial: dict[str, np.ndarray] = {}
        self._loaded: dict[str, np.ndarray] = {}
        collective.forget_on_form(self)

    @property
    def is_exact(self) -> bool:
        """Whether gradients travel as they were computed."""
        return self.format != AUTO and wire_format(self.format).is_exact

    def memory_of(self, message: Sequence[Slice]) -> MessageMemory:
        """Return the variables that a format keeps for `message`."""
        return MessageMemory(self, message)

    def variable(self, key: str, initial: np.ndarray) -> tf.Variable:
        """Return the variable `key`, made of what was loaded for it, else of `initial`."""
        if key not in self._variables:
            loaded = self._loaded.pop(key, None)
            value = initial if loaded is None or loaded.shape != initial.shape else loaded
            # A training step that is being traced may be the first to ask.
            self._variables[key] = untraced_variable(
                value, trainable=False, dtype=initial.dtype, name="eai_wire"
            )
            self._initial[key] = initial
        return self._variables[key]

    def forget(self) -> None:
        """Begin anew: nothing is owed, no scale is known."""
        import tensorflow as tf

        with tf.init_scope():
            for key, variable in self._variables.items():
                variable.assign(self._initial[key])

    # ---------------------------------------------------------------- its memory

    def share(self) -> None:
        """Take over from rank 0 what ranks must have in common, such as scales.

        All ranks must call it. Where one knows of other scales than the rest, all forget.
        """
        common = {k: v for k, v in self._variables.items() if not k.startswith(OWED)}
        digest = hashlib.sha256(repr(sorted(common)).encode()).digest()[:6]
        known = collective.gather_numpy(np.array([int.from_bytes(digest, "big")], np.int64))
        if (known != known[0]).any():
            self.forget()
        else:
            collective.broadcast_variables([common[key] for key in sorted(common)])

    def settle(self) -> None:
        """Let every rank owe the same: the mean, so that nothing is lost between them.

        All ranks must call it, before one of them writes what all will go on from.
        """
        for key in sorted(self._variables):
            if key.startswith(OWED):
                total = collective.allreduce_numpy(self._variables[key].numpy())
                self._variables[key].assign(total / np.float32(collective.size()))

    def state(self) -> dict[str, np.ndarray]:
        """Return all memory by key."""
        made = {key: variable.numpy() for key, variable in self._variables.items()}
        return dict(sorted({**self._loaded, **made}.items()))

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over `state`'s answer; what has no place yet waits for it."""
        for key, values in state.items():
            array = np.asarray(values)
            variable = self._variables.get(key)
            if variable is None:
                self._loaded[key] = array
            elif tuple(variable.shape) == array.shape:
                variable.assign(array)


class MessageMemory:
    """The variables of one message: an `ExchangeMemory` within a `Wire`."""

    def __init__(self, wire: Wire, message: Sequence[Slice]) -> None:
        self._wire = wire
        self._message = message

    def common(self, kind: str, initial: np.ndarray) -> tf.Variable:
        """Return a variable that all ranks have in common."""
        return self._wire.variable(key_of(kind, self._message), initial)

    def own(self, initial: np.ndarray) -> tf.Variable:
        """Return the variable of what this rank has yet to send."""
        return self._wire.variable(key_of(OWED.rstrip("/"), self._message), initial)


def key_of(kind: str, message: Sequence[Slice]) -> str:
    """Return the key of a message's memory: by positions, which names are not the same twice.

    Examples:
        >>> from eai_notebook.train.exchange.buckets import Slice
        >>> key_of("owed", [Slice(3, 0, 10), Slice(1, 0, 5)])
        'owed/3:0-10,1:0-5'
    """
    return f"{kind}/" + ",".join(
        f"{piece.position}:{piece.first}-{piece.last}" for piece in message
    )
