"""`ShardedEmbedding`: an embedding table whose rows are spread over the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.compression.row_exchange import RowExchange
from eai_notebook.compression.wire_registry import check_wire, format_names, wire_format
from eai_notebook.errors import EaiError
from eai_notebook.train.sharded.sharded_variables import Shard, mark, put_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf

OUTSIDE: Final = "eai: an id is outside of the table"
"""How the report of a bad id begins, when it comes out of a compiled step."""


@keras.saving.register_keras_serializable(package="eai_notebook")
class ShardedEmbedding(keras.layers.Layer):  # type: ignore[misc,unused-ignore]
    """Turn ids into vectors, with a table that no rank has to hold.

    Of N ranks, rank r holds every N-th row, from row r on. A batch's ids go to the ranks
    that hold them, each id once; the rows come back, and their gradients go the same way.
    The rank that holds a row updates it, with the optimizer that the model has: table,
    gradients and the optimizer's variables are never sent around as a whole. The model that
    comes out is that of `keras.layers.Embedding` with the same initial table.

    Every rank has to call it equally often, in training, `evaluate` and `predict` alike.
    Checkpoints (`Checkpoint`) hold the table in a file a rank, and can be gone on with on
    another number of ranks; a model is saved with ``model.save`` on one rank.

    Args:
        input_dim: Rows of the table: ids are from 0 to ``input_dim - 1``.
        output_dim: Numbers in a vector.
        initial_range: Rows begin with numbers between plus and minus this, which follow from
            `seed` and the row's number alone.
        seed: A whole number.
        wire: The format in which gradients go back: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
            Rows come in fp32.
        name: The layer's name, the same on all ranks.

    Raises:
        EaiError: A size below 1 or an unknown `wire`; an id outside of the table; a table
            made for another number of ranks.

    Examples:
        >>> table = ShardedEmbedding(1000, 4)
        >>> table(np.array([[1, 2], [999, 1]])).shape.as_list()
        [2, 2, 4]
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        initial_range: float = 0.05,
        seed: int = 0,
        wire: str = "fp32",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if input_dim < 1 or output_dim < 1:
            raise EaiError(
                f"input_dim is {input_dim} and output_dim is {output_dim}",
                "give whole numbers of at least 1",
                code="embedding-size",
            )
        check_wire(wire, tuple(n for n in format_names() if wire_format(n).without_memory))
        super().__init__(name=name, **kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.initial_range = initial_range
        self.seed = seed
        self.wire = wire
        self.embeddings: Any = None
        self._shard: Shard | None = None

    def build(self, input_shape: Any = None) -> None:  # noqa: ARG002 -- Keras's signature
        """Make this rank's rows."""
        collective.ensure_formed()
        shard = Shard(self.name, self.input_dim, collective.rank(), collective.size())
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(shard.length, self.output_dim),
            initializer=self._initial(shard),
            autocast=False,
        )
        mark(self.embeddings, shard)
        self._shard = shard

    def _initial(self, shard: Shard) -> Callable[..., Any]:
        """Return what makes the first values of a rank's rows: each of its number alone."""

        def make(shape: Any, dtype: Any = None) -> Any:
            import tensorflow as tf

            width = int(shape[1])
            # Filled in place: rows made one by one and joined would be in memory twice. In a
            # step that is being traced it has to be done at once, too.
            with tf.init_scope():
                rows = tf.Variable(tf.zeros(shape, dtype or "float32"))
                for first in range(0, shard.length, _BLOCK):
                    last = min(first + _BLOCK, shard.length)
                    numbers = tf.range(first, last, dtype=tf.int64) * shard.ranks + shard.rank
                    made = _uniform(numbers, width, self.seed, self.initial_range)
                    put_rows(rows, first, tf.cast(made, rows.dtype))
                return rows.read_value()

        return make

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check what can be checked now; Keras would turn an error of `call` into another."""
        import tensorflow as tf

        shard = self._shard
        if shard and (shard.rank, shard.ranks) != (collective.rank(), collective.size()):
            raise EaiError(
                f"the rows of `{self.name}` were made for rank {shard.rank} of {shard.ranks}, and "
                f"this is rank {collective.rank()} of {collective.size()}",
                "use all ranks the model was made on, or make it again from a checkpoint",
                code="shard-of-another-ring",
            )
        if isinstance(inputs, np.ndarray) or (tf.is_tensor(inputs) and hasattr(inputs, "numpy")):
            flat = np.asarray(inputs).ravel()
            outside = flat[(flat < 0) | (flat >= self.input_dim)]
            if len(outside):
                raise outside_error(self.name, int(outside[0]), self.input_dim)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Return the vectors of ids of any shape, with one more axis."""
        import tensorflow as tf

        shard = self._shard
        assert shard is not None  # noqa: S101 -- Keras builds before it calls
        ids = tf.convert_to_tensor(inputs)
        if not ids.dtype.is_integer:
            ids = tf.cast(ids, tf.int64)
        flat = tf.reshape(ids, [-1])
        with tf.control_dependencies([self._checked(flat)]):
            route = RowExchange(tf.identity(flat), f"table.{self.name}.{_numbered(self.name)}")
        found = route.fetch(self.embeddings.value, self.wire, shard.sent.append)
        shaped = tf.reshape(found, tf.concat([tf.shape(ids), [self.output_dim]], 0))
        shaped = tf.ensure_shape(shaped, [*ids.shape, self.output_dim])
        return tf.cast(shaped, self.compute_dtype)

    def _checked(self, flat: tf.Tensor) -> tf.Tensor:
        """Return an operation that fails if an id is outside of the table, and names it."""
        import tensorflow as tf

        outside = tf.logical_or(flat < 0, flat >= self.input_dim)
        first = tf.concat([tf.boolean_mask(flat, outside)[:1], tf.zeros([1], flat.dtype)], 0)[0]
        message = [f"{OUTSIDE}|{self.name}|", first, f"|{self.input_dim}|"]
        return tf.debugging.Assert(tf.logical_not(tf.reduce_any(outside)), message)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return the shape of the vectors of ids of `input_shape`."""
        return (*input_shape, self.output_dim)

    # ------------------------------------------------------------------ on disk

    def save_own_variables(self, store: Any) -> None:
        """Save the table, where one rank has all of it."""
        self._whole_or_raise("saved")
        super().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        """Take this rank's rows from a saved table."""
        if self._shard is None or self._shard.ranks == 1:
            super().load_own_variables(store)
            return
        shard, whole = self._shard, store["0"]
        rows = np.zeros(tuple(self.embeddings.shape), "f4")
        rows[: shard.used] = whole[shard.rank : shard.rows : shard.ranks]
        self.embeddings.assign(rows)

    def _whole_or_raise(self, what: str) -> None:
        if self._shard is not None and self._shard.ranks > 1:
            raise EaiError(
                f"`{self.name}` is spread over {self._shard.ranks} ranks and cannot be {what} by "
                "one of them",
                "use eai.Checkpoint, and go on from it on one rank to save the model as one file",
                code="sharded-table",
            )

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "initial_range": self.initial_range,
            "seed": self.seed,
            "wire": self.wire,
        }


_BLOCK: Final = 1 << 16
"""Rows that are made at a time: what making them needs beside them stays small."""


def _uniform(numbers: tf.Tensor, width: int, seed: int, half: float) -> tf.Tensor:
    """Return float32 [n, width] between plus and minus `half`, by hashing numbers and positions.

    The mixing is splitmix64's (Steele, Lea and Flood 2014).
    """
    import tensorflow as tf

    def constant(value: int) -> tf.Tensor:
        return tf.constant(np.uint64(value & (2**64 - 1)))

    position = tf.cast(numbers[:, None] * width + tf.range(width, dtype=tf.int64), tf.uint64)
    mixed = (position + constant(1)) * constant(0x9E3779B97F4A7C15) + constant(
        seed * 0xD1B54A32D192ED03
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, constant(shift)))
        mixed = mixed * constant(factor)
    top = tf.cast(tf.bitwise.right_shift(mixed, constant(40)), tf.float32)
    return (top * 2.0**-23 - 1.0) * half


def _numbered(name: str) -> int:
    """Count a layer's uses in the graph that is being traced: each needs a name of its own."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return 0
    uses: list[str] = tf.compat.v1.get_default_graph().get_collection_ref("eai_tables")
    uses.append(name)
    return uses.count(name) - 1


def outside_error(name: str, bad: int, rows: int) -> EaiError:
    """Return the error for an id that has no row in `name`."""
    return EaiError(
        f"rank {collective.rank()}: id {bad} is outside of the table `{name}`, which has rows 0 to "
        f"{rows - 1}",
        "hash or clip the ids, or give a larger input_dim",
        code="id-outside-table",
    )


def explained(error: BaseException) -> EaiError | None:
    """Return TensorFlow's report of a bad id as our error; None if it is about something else."""
    text = str(error)
    begin = text.find(OUTSIDE)
    if begin < 0:
        return None
    message = text[begin:].replace("'", "").replace('b"', "").replace("\n", "")
    _, name, bad, rows, *_ = (part.strip(' []"') for part in message.split("|"))
    return outside_error(name, int(bad), int(rows))
