"""An embedding table whose rows are updated one by one, with the optimizer's variables for it.

In ``"exact"`` mode a row that had no gradient for some steps waits: its weight and slots are those
after the step it was last in. A reader of a row gets it as Keras would have it now; nothing is
written for that, so that replicas which read differently stay equal bit by bit. Rows are written
when they have a gradient, on all ranks alike, and all of them every `WINDOW` steps.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from eai_notebook.train.row_wise.idle_steps import WINDOW, IdleStep, terms
from eai_notebook.train.row_wise.row_view import RowView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import tensorflow as tf

RowWise = Literal["exact", "lazy"]
"""How rows without a gradient are treated.

``"exact"``: they get what they missed before they are used again, which is what Keras computes.
``"lazy"``: a step changes the rows that it has gradients of and nothing else.
"""

WEIGHT: Final = ""
"""The key of the table itself among its rows; slots have the names of the optimizer's attributes."""
_TABLE: Final = "_eai_row_table"
AVERAGE: Final = "_model_variables_moving_average"
_BLOCK: Final = 1 << 14


class RowTable:
    """One table of one optimizer; it does nothing until rows of it are looked up.

    Args:
        optimizer: The optimizer that updates the table; built.
        variable: The Keras variable, float32 ``[rows, width]``.
        idle: What the optimizer does to rows without a gradient.
        mode: ``"exact"`` or ``"lazy"``.
    """

    def __init__(self, optimizer: Any, variable: Any, idle: IdleStep, mode: RowWise) -> None:
        self.optimizer = optimizer
        self.variable = variable
        self.idle = idle
        self.mode = mode
        self.active = False
        self.refused = False
        position = optimizer._get_variable_index(variable)  # noqa: SLF001
        names = (*idle.slots, AVERAGE) if optimizer.use_ema else idle.slots
        self.keras_variables: dict[str, Any] = {WEIGHT: variable}
        self.keras_variables |= {name: getattr(optimizer, name)[position] for name in names}
        self.position = position
        self._plain: dict[str, tf.Variable] = {}
        self._decayed = optimizer.weight_decay is not None and optimizer._use_weight_decay(  # noqa: SLF001
            variable.value
        )
        self._reads_raw = False
        self._terms = terms(idle.drift) if mode == "exact" else None
        setattr(variable, _TABLE, self)
        variable.sparse_read = self.look_up  # `tf.gather` asks for it, and Keras asks `tf.gather`
        variable.value.sparse_read = self.look_up

    @property
    def waits(self) -> bool:
        """Whether rows without a gradient have something to catch up."""
        return self.mode == "exact" and self._changes

    @property
    def _changes(self) -> bool:
        idle = self.idle
        return bool(idle.moves_weights or idle.decays or self._decayed or self.optimizer.use_ema)

    @property
    def _moves_weights(self) -> bool:
        return self.idle.moves_weights or self._decayed

    @property
    def can_begin_late(self) -> bool:
        """Whether it may be used in steps whose lookups were traced before it was active."""
        return not (self.waits and self._moves_weights)

    # -------------------------------------------------------------------- beginning

    def trace_again(self) -> bool:
        """Have the step that is being traced be traced once more; return whether it will be.

        Its lookups were traced before the table was known. TensorFlow does so where a variable is
        made in a function's first trace, which then never runs.
        """
        import tensorflow as tf

        try:
            self._made_in_first_trace = tf.Variable(0, trainable=False, name="eai_row_wise")
        except ValueError:
            return False
        return True

    def activate(self) -> None:
        """Begin to update by rows."""
        if self.active or self.refused:
            return
        import tensorflow as tf

        self.active = True
        self._plain = {name: each._value for name, each in self.keras_variables.items()}  # noqa: SLF001
        self._reads = {name: each._read_variable_op for name, each in self._plain.items()}  # noqa: SLF001
        self._gathers = {name: _gather_of(each) for name, each in self._plain.items()}
        if not self.waits:
            return
        width = 1 if self._terms is None else self._terms.shape[1]
        length, places = int(self.variable.shape[0]), WINDOW + 2
        with tf.init_scope():

            def state(initial: Any, dtype: str = "float64") -> tf.Variable:
                return tf.Variable(initial, trainable=False, dtype=dtype, name="eai_row_wise")

            self.count = state(0, "int32")
            self._last = state(np.zeros(length, "i4"), "int32")
            self._rate = state(1.0, "float32")
            self._moved = state(np.zeros((places, width)))
            self._kept = state(np.ones(places))
            self._average = [state(np.ones(places)), state(np.zeros(places))]
            self._average_moved = state(np.zeros((places, width)))
        for name, plain in self._plain.items():
            self._hook(name, plain)

    def _hook(self, key: str, plain: tf.Variable) -> None:
        """Have reads of a variable see rows as they are now, and assignments replace all of it."""

        def read(*arguments: Any, **settings: Any) -> tf.Tensor:
            raw = self._reads[key](*arguments, **settings)
            return raw if self._reads_raw else self._caught_up_whole(key, raw)

        def gather(indices: Any, name: str | None = None) -> tf.Tensor:  # noqa: ARG001
            return self._gathers[key](indices) if self._reads_raw else self._block(indices)[key]

        if key != WEIGHT:
            plain.sparse_read = gather
        plain._read_variable_op = read  # noqa: SLF001 -- all reads of a variable come here
        for kind in ("assign", "assign_add", "assign_sub"):
            change = getattr(plain, kind)

            def changed(*arguments: Any, change: Any = change, **settings: Any) -> Any:
                self.settle()
                with self.raw():
                    return change(*arguments, **settings)

            setattr(plain, kind, changed)

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Let reads see what is in memory; for those that know that no row waits."""
        before, self._reads_raw = self._reads_raw, True
        try:
            yield
        finally:
            self._reads_raw = before

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Have the table's rows in memory up to date meanwhile, and read as they are."""
        import tensorflow as tf

        weight = self._plain[WEIGHT]
        with self.raw():
            before = weight.read_value() if self.waits and int(self.count) else None
        if before is not None:
            _set(weight, weight.read_value())
        try:
            with self.raw():
                yield
        finally:
            # As it was: ranks that write nothing catch up in other steps, which rounds differently.
            if before is not None:
                with tf.init_scope():
                    _set(weight, before)

    # --------------------------------------------------------------------- reading

    def look_up(self, indices: Any, name: str | None = None) -> tf.Tensor:
        """Return rows as `tf.gather` does, after what they missed; the gradient is that of rows."""
        import tensorflow as tf

        self.activate()
        plain = self.variable._value  # noqa: SLF001
        rows = type(plain).sparse_read(plain, indices, name)
        if not (self.active and self.waits and self._moves_weights) or self._reads_raw:
            return rows
        others = {key: self._gathers[key](indices) for key in self._plain if key != WEIGHT}
        caught = self._caught_up(
            {WEIGHT: tf.stop_gradient(rows), **others}, tf.gather(self._last, indices)
        )[WEIGHT]

        @tf.custom_gradient
        def replaced(rows: tf.Tensor) -> Any:  # noqa: ARG001
            return tf.identity(caught), lambda gradient: gradient

        return replaced(rows)

    def _caught_up_whole(self, name: str, raw: tf.Tensor) -> tf.Tensor:
        """Return a whole variable as it would be now."""
        import tensorflow as tf

        if tf.executing_eagerly():
            if int(self.count) == 0:
                return raw
            length = int(self.variable.shape[0])
            found = np.empty(raw.shape, raw.dtype.as_numpy_dtype)
            for first in range(0, length, _BLOCK):
                last = min(first + _BLOCK, length)
                found[first:last] = self._block(tf.range(first, last))[name]
            caught = tf.constant(found)
        else:
            # By reads alone, which TensorFlow leaves out where only the shape is asked for.
            rows = {key: plain_read() for key, plain_read in self._reads.items()}
            caught = self._caught_up(rows, self._last.read_value())[name]

        @tf.custom_gradient
        def replaced(raw: tf.Tensor) -> Any:  # noqa: ARG001
            return tf.identity(caught), lambda gradient: gradient

        return replaced(raw)

    def _block(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        import tensorflow as tf

        rows = {name: gather(indices) for name, gather in self._gathers.items()}
        return self._caught_up(rows, tf.gather(self._last, indices))

    def _caught_up(self, rows: Mapping[str, tf.Tensor], last: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return rows of all variables after the steps that they missed.

        Args:
            rows: Float32 ``[..., width]`` by name, as they were after the step numbered `last`.
            last: Int32 ``[...]``, steps counted since all rows were brought up to date.
        """
        import tensorflow as tf

        now = dict(rows)
        missed = tf.cast(self.count - last, tf.float32)[..., None]

        def of_row(values: tf.Variable) -> tf.Tensor:
            return tf.cast(tf.gather(values.read_value(), last), tf.float32)

        weight, drift = rows[WEIGHT], self.idle.drift
        kept = of_row(self._kept)[..., None]
        factor = share = None
        if drift is not None:
            factor = drift.factor(rows)
            share = None if drift.share is None else 2 * drift.share(rows) - 1
        if self.optimizer.use_ema:
            (remains, of_weight), average = self._average, rows[AVERAGE]
            average = of_row(remains)[..., None] * average + of_row(of_weight)[..., None] * weight
            if factor is not None:
                average -= factor * _polynomial(of_row(self._average_moved), share)
            now[AVERAGE] = average
        if self._decayed:
            weight = weight * kept
        if factor is not None:
            weight -= factor * _polynomial(of_row(self._moved), share)
        if self.idle.solve is not None:
            weight = tf.where(missed > 0, self.idle.solve(rows, self._rate), weight)
        now[WEIGHT] = weight
        for name, factor_a_step in self.idle.decays.items():
            now[name] = rows[name] * tf.pow(tf.constant(factor_a_step, tf.float32), missed)
        return now

    # -------------------------------------------------------------------- updating

    def update(self, optimizer: Any, gradient: tf.IndexedSlices, rate: Any) -> None:
        """Make `optimizer`'s step for the rows of `gradient`, whose indices are distinct."""
        import tensorflow as tf

        indices = gradient.indices
        rows = {name: gather(indices) for name, gather in self._gathers.items()}
        if self.waits:
            rows = self._caught_up(rows, tf.gather(self._last, indices))
        views = {name: RowView(self.keras_variables[name], each) for name, each in rows.items()}
        weight = views[WEIGHT]
        if self._decayed:
            decay = tf.cast(optimizer.weight_decay, tf.float32) * tf.cast(rate, tf.float32)
            weight.assign_sub(weight * decay)
        worker = object.__new__(type(optimizer))
        worker.__dict__.update(vars(optimizer))
        worker.__dict__.update({name: {self.position: views[name]} for name in self.idle.slots})
        worker.update_step(gradient.values, weight, rate)
        if optimizer.use_ema:
            share = self._share_of_average(optimizer)
            views[AVERAGE].assign(share * views[AVERAGE] + (1 - share) * weight)
        for name, view in views.items():
            _scatter(self._plain[name], indices, view.value)
        if self.waits:
            _scatter(self._last, indices, tf.fill(tf.shape(indices), self.count + 1))
            self._advance(optimizer, rate)

    def _share_of_average(self, optimizer: Any) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(optimizer.iterations > 0, tf.float32) * optimizer.ema_momentum

    def _advance(self, optimizer: Any, rate: Any) -> None:
        """Count the step that was just made, and what it does to rows without a gradient."""
        import tensorflow as tf

        rate, drift = tf.cast(rate, tf.float32), self.idle.drift
        gap = self.count + 1 - tf.range(WINDOW + 2)
        waits = gap > 0  # (a row that waits since a later step than this one does not exist)
        moved, kept = self._moved.read_value(), self._kept.read_value()
        if self._decayed:
            decay = tf.cast(optimizer.weight_decay, tf.float32) * rate
            keeps = tf.where(waits, 1 - tf.cast(decay, tf.float64), tf.ones([], tf.float64))
            kept, moved = kept * keeps, moved * keeps[:, None]
        if drift is not None:
            step = tf.cast(optimizer.iterations + 1, tf.float32)
            weighted = tf.cast(drift.rate(rate, step), tf.float64) * self._terms
            moved += tf.gather(weighted, tf.maximum(gap, 0))
        if optimizer.use_ema:
            share = tf.cast(self._share_of_average(optimizer), tf.float64)
            remains, of_weight = self._average
            here = tf.where(waits, share, tf.ones([], tf.float64))
            _set(
                self._average_moved,
                here[:, None] * self._average_moved + (1 - here)[:, None] * moved,
            )
            _set(of_weight, here * of_weight + (1 - here) * kept)
            _set(remains, here * remains)
        _set(self._moved, moved)
        _set(self._kept, kept)
        _set(self._rate, rate)
        _set(self.count, self.count + 1)
        _if(self.count >= WINDOW, self._write_all)

    # -------------------------------------------------------------------- settling

    def settle(self) -> None:
        """Bring all rows up to date, in memory."""
        if self.active and self.waits:
            _if(self.count > 0, self._write_all)

    def _write_all(self) -> None:
        import tensorflow as tf

        length = int(self.variable.shape[0])

        def one(first: tf.Tensor) -> list[tf.Tensor]:
            indices = tf.range(first, tf.minimum(first + _BLOCK, length))
            found = self._block(indices)
            for name, rows in found.items():
                _scatter(self._plain[name], indices, rows)
            with tf.control_dependencies(list(found.values())):
                return [first + _BLOCK]

        tf.while_loop(lambda first: first < length, one, [tf.constant(0)], parallel_iterations=1)
        _set(self._last, tf.zeros_like(self._last))
        self.forget_missed()

    def forget_missed(self) -> None:
        """Begin to count steps anew; no row waits."""
        import tensorflow as tf

        for variable in (self._moved, self._average[1], self._average_moved):
            _set(variable, tf.zeros_like(variable))
        for variable in (self._kept, self._average[0]):
            _set(variable, tf.ones_like(variable))
        _set(self.count, tf.zeros_like(self.count))


def table_of(variable: Any) -> RowTable | None:
    """Return the table that a Keras variable was made, None for others."""
    return getattr(variable, _TABLE, None)


@contextlib.contextmanager
def as_plain(variables: Iterable[Any]) -> Iterator[None]:
    """Let tables be variables like any other, as if no row waited; for what outlives the training.

    A model that is written for serving must not refer to the optimizer's variables.
    """
    found = [table_of(variable) for variable in variables]
    with contextlib.ExitStack() as stack:
        for table in found:
            if table is not None and table.active:
                stack.enter_context(table.written())
        yield


def _polynomial(coefficients: tf.Tensor, at: tf.Tensor | None) -> tf.Tensor:
    """Return polynomials ``[..., degree + 1]`` at the numbers `at`, ``[..., width]``."""
    degree = int(coefficients.shape[-1]) - 1
    found = coefficients[..., degree, None]
    if at is None:
        return coefficients[..., 0, None]
    for power in range(degree - 1, -1, -1):
        found = found * at + coefficients[..., power, None]
    return found


def _gather_of(variable: tf.Variable) -> Any:
    gather = type(variable).sparse_read
    return lambda indices: gather(variable, indices)


def _scatter(variable: tf.Variable, indices: tf.Tensor, rows: tf.Tensor) -> None:
    import tensorflow as tf

    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=indices, updates=rows)


def _set(variable: tf.Variable, value: Any) -> None:
    import tensorflow as tf

    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.cast(value, variable.dtype))


def _if(condition: tf.Tensor, work: Any) -> None:
    """Do `work` where `condition` holds, in a graph or at once."""
    import tensorflow as tf

    if tf.executing_eagerly():
        if bool(condition):
            work()
        return

    def done() -> tf.Tensor:
        work()
        return tf.constant(0)

    tf.cond(condition, done, lambda: tf.constant(0))
