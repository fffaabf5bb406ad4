"""Average dense gradients: small ones fused, large ones in their wire format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook import collective
from eai_notebook.compression.wire_registry import AUTO, wire_format
from eai_notebook.train.exchange import wire_autotune
from eai_notebook.train.exchange.buckets import SMALL
from eai_notebook.train.exchange.traffic import Tally, as_float

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorflow as tf

    from eai_notebook.train.exchange.buckets import Group, Slice
    from eai_notebook.train.exchange.wire_state import Wire


def average(group: Group, given: Mapping[int, Any], wire: Wire, tally: Tally) -> dict[int, Any]:
    """Return the averages of a group's dense gradients by position, in their shapes and dtypes."""
    averages = _whole({position: given[position] for position in group.whole}, tally)
    pieces: dict[int, list[tuple[int, tf.Tensor]]] = {}
    for message in group.coded:
        for piece, part in zip(message, _coded(message, given, wire, tally), strict=True):
            pieces.setdefault(piece.position, []).append((piece.first, part))
    return averages | {
        position: _joined(parts, given[position]) for position, parts in pieces.items()
    }


def _whole(given: Mapping[int, tf.Tensor], tally: Tally) -> dict[int, tf.Tensor]:
    """Average as they are: small ones of a dtype in one message, each other by itself."""
    import tensorflow as tf

    averages = {}
    small: dict[Any, list[int]] = {}
    for position, gradient in given.items():
        length = gradient.shape.num_elements()
        width = gradient.dtype.size
        count = as_float(tf.size(gradient)) if length is None else int(length)
        tally.reduced(count * width)
        if length is not None and length <= SMALL:
            small.setdefault(gradient.dtype, []).append(position)
        else:
            averages[position] = collective.allreduce(gradient, f"gradient.{position}")
    for dtype, positions in small.items():
        if len(positions) == 1:
            averages[positions[0]] = collective.allreduce(
                given[positions[0]], f"gradient.{positions[0]}"
            )
        else:
            averages |= _together({position: given[position] for position in positions}, dtype.name)
    return averages


def _together(given: Mapping[int, tf.Tensor], kind: str) -> dict[int, tf.Tensor]:
    """Average gradients of one dtype in one message."""
    import tensorflow as tf

    flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in given.values()], 0)
    mean = collective.allreduce(flat, f"gradient.{kind}.{'.'.join(map(str, given))}")
    parts = tf.split(mean, [int(gradient.shape.num_elements()) for gradient in given.values()])
    return {
        position: tf.reshape(part, gradient.shape)
        for part, (position, gradient) in zip(parts, given.items(), strict=True)
    }


def _coded(
    message: list[Slice], given: Mapping[int, Any], wire: Wire, tally: Tally
) -> list[tf.Tensor]:
    """Return the averages of a message's slices, flat float32, in the wire's format."""
    import tensorflow as tf

    parts = []
    for piece in message:
        flat = tf.cast(tf.reshape(given[piece.position], [-1]), tf.float32)
        parts.append(flat[piece.first : piece.last])
    if wire.format == AUTO:
        return _auto(message, parts, wire, tally)
    return _in_format(wire.format, message, parts, wire, tally)


def _in_format(
    name: str, message: list[Slice], parts: list[tf.Tensor], wire: Wire, tally: Tally
) -> list[tf.Tensor]:
    """Average a message in one format."""
    found = wire_format(name).average(parts, wire.memory_of(message), _name(name, message))
    tally.reduced(found.handed)
    if found.redone is not None:
        tally.redone.append(found.redone)
    return found.parts


def _auto(
    message: list[Slice], parts: list[tf.Tensor], wire: Wire, tally: Tally
) -> list[tf.Tensor]:
    """Average in the format whose turn it is."""

    def branch(name: str) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        own = Tally()
        averages = _in_format(name, message, parts, wire, own)
        sent, _, redone = own.marks()
        return averages, sent, redone

    averages, sent, redone = wire_autotune.switch(wire.now, branch)
    tally.dense.append(sent)
    tally.redone.append(redone)
    return list(averages)


def _name(kind: str, message: list[Slice]) -> str:
    """Return a name that no other message of the step has."""
    return f"gradient.{kind}.{message[0].position}.{message[0].first}"


def _joined(parts: list[tuple[int, tf.Tensor]], like: tf.Tensor) -> tf.Tensor:
    """Return a gradient put together of its slices, with the shape and dtype of `like`."""
    import tensorflow as tf

    ordered = [part for _, part in sorted(parts, key=lambda each: each[0])]
    flat = ordered[0] if len(ordered) == 1 else tf.concat(ordered, 0)
    return tf.cast(tf.reshape(flat, like.shape), like.dtype)
